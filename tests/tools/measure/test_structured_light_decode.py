"""From fringe images to points: against ray-cast truth, against the slow matcher, and images that cannot be used."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fieldstone.__main__ import main
from fieldstone.core.errors import UserError
from fieldstone.tools.measure import read
from fieldstone.tools.measure.simulate import build
from fieldstone.tools.measure.simulate.caster_cpu import cast_rays
from fieldstone.tools.measure.simulate.fringes import Imaging, render_fringes
from fieldstone.tools.measure.simulate.scanner import pixel_rays, stereo_rig, view_pose
from fieldstone.tools.measure.simulate.write import write_images
from fieldstone.tools.measure.structured_light import (
    Lens,
    Pattern,
    StereoCalibration,
    decode,
    read_calibration,
    write_calibration,
)
from fieldstone.tools.measure.structured_light.geometry import project, undistorted
from fieldstone.tools.measure.structured_light.matching import match_reference, sample_reference
from fieldstone.tools.measure.structured_light.matching_cpu import sample

CAPTURE = Path(__file__).resolve().parents[4] / "shared/data/metrology/gearbox_stereo"


@pytest.fixture(scope="module")
def shot():
    """A flange under 15 degrees in a rig of 400 x 300 pixels: rig, placed part, both image stacks."""
    rng = np.random.default_rng(0)
    rig = stereo_rig(width=400, height=300, view=300.0, pattern=Pattern(bits=4))
    part = build("flange", rng).placed(view_pose(rig, tilt_deg=15))
    return rig, part, render_fringes(part, rig, rng, Imaging())


@pytest.fixture(scope="module")
def decoded(shot):
    rig, _, images = shot
    return decode(images, rig.calibration)


def true_distance(rig, part, pixels):
    origin, directions = pixel_rays(rig, pixels)
    distance, face, _ = cast_rays(part.table(), origin, directions)
    return np.where(face >= 0, distance, np.nan), directions


def test_points_lie_where_the_rays_meet_the_part_and_as_near_as_sigma_says(shot, decoded):
    rig, part, _ = shot
    cloud = decoded.cloud
    rows, columns = np.divmod(cloud.pixels, rig.calibration.size[0])
    distance, directions = true_distance(rig, part, np.column_stack([columns, rows]).astype(float))
    error = np.linalg.norm(cloud.points, axis=1) - distance
    np.testing.assert_allclose(np.cross(cloud.points, directions) / cloud.points[:, 2:], 0, atol=1e-9)
    assert len(cloud) > 25_000
    hit = np.isfinite(
        error
    )  # at a rim, half of the pixels that see some of the part have their centre beside it
    assert hit.mean() > 0.97
    error, pull = error[hit], (error / cloud.sigma)[hit]
    middle = np.abs(pull) < 4  # edges mix two depths
    assert middle.mean() > 0.97
    # the lens's blur makes neighbours' noise common and a little smaller than the images' own: the sigma is on the safe side
    assert 0.7 < np.sqrt(np.mean(pull[middle] ** 2)) < 1.15
    assert abs(np.median(error)) < 0.15 * np.median(cloud.sigma)


def test_the_fast_matcher_agrees_with_the_slow_one(shot, decoded):
    rig, _, _ = shot
    rng = np.random.default_rng(1)
    rows, columns = np.nonzero(np.isfinite(decoded.match.sigma))
    chosen = rng.choice(len(rows), 40, replace=False)
    pixels = np.column_stack([columns[chosen], rows[chosen]])
    slow = match_reference(decoded.left, decoded.right, rig.calibration, pixels=pixels)
    fast = decoded.match.points[pixels[:, 1], pixels[:, 0]]
    same = np.isfinite(slow[:, 0])
    assert same.mean() > 0.9
    np.testing.assert_allclose(fast[same], slow[same], rtol=1e-7)


def test_phase_between_pixels_agrees_with_its_description():
    rng = np.random.default_rng(5)
    phase = 0.2 * np.arange(30.0) + 0.05 * np.arange(20.0)[:, None]
    phase[rng.random(phase.shape) < 0.3] = np.nan
    phase[:, 20:] += 3.0
    sigma = np.full(phase.shape, 0.01, np.float32)
    known = 0
    for px, py in rng.uniform(-0.5, [29.5, 19.5], (3000, 2)):
        fast, slow = (f(phase, sigma, px, py, 0.8) for f in (sample, sample_reference))
        assert fast == pytest.approx(slow, abs=1e-12, nan_ok=True)
        if np.isfinite(
            fast
        ):  # the slanted plane is continued exactly, but for a pixel without a neighbour above or below
            known += abs(fast - (0.2 * px + 0.05 * py) - (3 if px > 19.5 else 0)) < 1e-9
    assert known > 1200


def test_holes_do_not_grow_by_the_pixels_at_their_rims(shot, decoded):
    """The part that is seen must reach as near to the bore's axis as its wall does, on average over the rim."""
    rig, part, _ = shot
    bore = next(f for f in part.features if f.name == "bore" and f.kind == "cylinder").parameters
    face = next(f for f in part.features if f.name == "face").parameters
    points = decoded.cloud.points - face["point"]
    height = points @ face["normal"]
    points = points[np.abs(height) < 1.0]
    across = points + face["point"] - bore["axis_point"]
    across = across - np.outer(across @ bore["axis_direction"], bore["axis_direction"])
    x = np.cross(bore["axis_direction"], [0.0, 1.0, 0.0])
    x /= np.linalg.norm(x)
    angle = np.arctan2(across @ np.cross(bore["axis_direction"], x), across @ x)
    r = np.linalg.norm(across, axis=1)
    # the area of the ring out to twice the radius that pixels cover tells where the rim lies without looking for single points
    pixel = rig.distance / rig.calibration.left.matrix[0, 0]
    ring = (r < 1.8 * bore["radius"]) & (r > 0.7 * bore["radius"])
    outer = (r >= 1.4 * bore["radius"]) & (r < 1.8 * bore["radius"])
    density = outer.sum() / (np.pi * (1.8**2 - 1.4**2) * bore["radius"] ** 2)
    area = ring.sum() / density
    rim = np.sqrt((1.8 * bore["radius"]) ** 2 - area / np.pi)
    assert abs(rim - bore["radius"]) < 0.25 * pixel
    assert len(np.unique((angle * 10).astype(int))) > 50


def test_the_record_says_what_was_used(shot, decoded):
    record = decoded.measurement.to_json()
    assert record["kind"] == "decode" and record["unit"] == "mm"
    assert record["parameters"]["points"] == record["n_used"] == len(decoded.cloud)
    assert record["parameters"]["baseline"] == pytest.approx(250.0)
    counts = record["extras"]["match"]
    assert (
        sum(counts[k] for k in ("matched", "unmatched", "steep", "ambiguous", "lonely", "range"))
        == counts["valid"]
    )
    assert decoded.cloud.shape == (300, 400)


@pytest.mark.parametrize(
    "pattern", [Pattern(steps=6, bits=4), Pattern(steps=3, bits=4, inverse=True)], ids=str
)
def test_other_patterns_give_the_same_plane(shot, pattern):
    rig, part, _ = shot
    rng = np.random.default_rng(2)
    images = render_fringes(part, replace(rig, pattern=pattern), rng, Imaging(samples=1))
    found = decode(images, rig.calibration, steps=pattern.steps, inverse=pattern.inverse)
    rows, columns = np.divmod(found.cloud.pixels, 400)
    distance, _ = true_distance(rig, part, np.column_stack([columns, rows]).astype(float))
    error = np.linalg.norm(found.cloud.points, axis=1) - distance
    assert len(found.cloud) > 20_000
    assert abs(np.nanmedian(error)) < 0.3 * np.median(found.cloud.sigma)


def test_z_range_and_masks_leave_out_what_they_should(shot, decoded):
    rig, _, images = shot
    z = decoded.cloud.points[:, 2]
    middle = float(np.median(z))
    near = decode(images, rig.calibration, z_range=(0.5 * middle, middle))
    assert near.cloud.points[:, 2].max() <= middle
    assert len(near.cloud) / len(decoded.cloud) == pytest.approx(0.5, abs=0.02)
    assert near.match.counts["range"] > 0
    with pytest.raises(UserError, match="nearer first"):
        decode(images, rig.calibration, z_range=(600, 500))
    bright = tuple(np.clip(1.6 * side.astype(float), 0, 255).astype(np.uint8) for side in images)
    glaring = decode(bright, rig.calibration)
    assert any("% of the lit pixels are saturated" in w for w in glaring.measurement.warnings)
    assert len(glaring.cloud) < 0.8 * len(decoded.cloud)
    assert np.median(glaring.left.mean[np.isfinite(glaring.left.phase)]) < 160
    dark = tuple(side // 60 for side in images)
    with pytest.raises(UserError):
        decode(dark, rig.calibration)


def test_a_calibration_that_is_not_of_these_images_is_refused(shot):
    rig, _, images = shot
    with pytest.raises(UserError, match=r"the calibration .* is for 800 x 600"):
        decode(images, replace(rig.calibration, size=(800, 600)))
    swapped = images[::-1]
    with pytest.raises(UserError):
        decode(swapped, rig.calibration)
    with pytest.raises(UserError, match=r"10 left and 9 right|left and .* right images"):
        decode((images[0], images[1][:-1]), rig.calibration)


def test_files_in_and_out(shot, tmp_path):
    rig, _, images = shot
    write_images(tmp_path, *images)
    write_calibration(tmp_path / "calibration.yml", rig.calibration)
    out, record = tmp_path / "cloud.ply", tmp_path / "result.json"
    command = [
        "measure",
        "decode",
        str(tmp_path),
        "-o",
        str(out),
        "--json",
        str(record),
        "--report",
        str(tmp_path / "report"),
    ]
    assert main(command) == 0
    cloud = read(out)
    assert cloud.unit == "mm" and cloud.sigma is not None
    assert json.loads(record.read_text())["parameters"]["points"] == len(cloud)
    html = (tmp_path / "report/report.html").read_text()
    assert "Relief" in html and html.count("data:image/png") >= 3

    (tmp_path / "R/05.png").unlink()
    assert main(command) == 2
    shutil.copy(tmp_path / "R/04.png", tmp_path / "R/05.png")
    (tmp_path / "R/05.png").write_bytes((tmp_path / "R/04.png").read_bytes()[:200])
    assert main(command) == 2


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda d: (d / "L/03.png").unlink(), "image 3 is missing|9 left and 10 right"),
        (lambda d: shutil.rmtree(d / "R"), "holds no folder R"),
        (lambda d: (d / "L/03.png").write_bytes(b"not an image"), "not an image"),
        (
            lambda d: cv2.imwrite(str(d / "L/03.png"), np.zeros((32, 64), np.uint8)),
            "is 64 x 32 uint8, 00.png is 64 x 64",
        ),
        (lambda d: [p.unlink() for p in d.glob("*/09.png")], "4 phase steps|do not belong together"),
        (lambda d: shutil.copy(d / "L/03.png", d / "L/x3.png"), "number 3 occurs twice|11 left and 10 right"),
    ],
)
def test_broken_image_sets_are_named(shot, tmp_path, break_it, message):
    _, _, images = shot
    write_images(tmp_path, images[0][:, :64, :64], images[1][:, :64, :64])
    break_it(tmp_path)
    with pytest.raises(UserError, match=message):
        decode(tmp_path, shot[0].calibration)


# ------------------------------------------------------------------------------------------------ calibration files


def test_a_calibration_goes_through_its_file(tmp_path):
    rig = stereo_rig(width=400, height=300)
    for name in ("c.yml", "c.xml"):
        write_calibration(tmp_path / name, rig.calibration)
        again = read_calibration(tmp_path / name)
        np.testing.assert_allclose(again.rotation, rig.calibration.rotation, atol=1e-12)
        np.testing.assert_allclose(again.translation, rig.calibration.translation, rtol=1e-12)
        np.testing.assert_allclose(again.left.packed(), rig.calibration.left.packed(), rtol=1e-12)
        assert again.size == (400, 300) and again.unit == "mm"
    metres = again.to_unit("m")
    assert metres.baseline == pytest.approx(0.25)


def test_projection_agrees_with_opencv_and_undistortion_inverts_it():
    rng = np.random.default_rng(3)
    distortion = np.array([-0.2, 0.1, 1e-3, -2e-3, 0.02, 0.05, -0.01, 0.003, 1e-3, -5e-4, 2e-3, 1e-4])
    lens = Lens(np.array([[900, 0, 320.5], [0, 880, 241.0], [0, 0, 1]]), distortion)
    rig = stereo_rig().calibration
    calibration = StereoCalibration(lens, lens, rig.rotation, rig.translation, (640, 480), "mm")
    points = np.column_stack([rng.uniform(-150, 150, (200, 2)), rng.uniform(500, 700, 200)])
    for right in (False, True):
        turn, shift = (
            (cv2.Rodrigues(rig.rotation)[0], rig.translation) if right else (np.zeros(3), np.zeros(3))
        )
        expected = cv2.projectPoints(points, turn, shift, lens.matrix, distortion)[0][:, 0]
        pixels = project(calibration, points, right)
        np.testing.assert_allclose(pixels, expected, atol=1e-8)
        inside = points @ rig.rotation.T + rig.translation if right else points
        np.testing.assert_allclose(
            undistorted(calibration, pixels, right), inside[:, :2] / inside[:, 2:], atol=1e-9
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not an OpenCV file"),
        ("%YAML:1.0\n---\nM1: !!opencv-matrix\n   rows: 3\n", "not an OpenCV file|no M1|no D1"),
        ("%YAML:1.0\n---\nunit: mm\n", "no M1"),
    ],
)
def test_damaged_calibrations_are_bad_input(tmp_path, text, message):
    path = tmp_path / "c.yml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_calibration(path)


def test_numbers_that_are_no_calibration_are_named(tmp_path):
    rig = stereo_rig(width=400, height=300).calibration
    for change, message in (
        ({"rotation": np.diag([1.0, 1.0, -1.0])}, "R is not a rotation"),
        ({"translation": np.zeros(3)}, "T is zero"),
        ({"left": Lens(np.diag([0.0, 1.0, 1.0]), rig.left.distortion)}, "not a camera matrix"),
    ):
        write_calibration(tmp_path / "c.yml", replace(rig, **change))
        with pytest.raises(UserError, match=message):
            read_calibration(tmp_path / "c.yml")
    with pytest.raises(UserError, match="no such calibration file"):
        read_calibration(tmp_path / "none.yml")


# ------------------------------------------------------------------------------------------------ the real capture


@pytest.mark.skipif(not CAPTURE.is_dir(), reason=f"no real capture in {CAPTURE}")
def test_the_real_capture_decodes_to_the_planes_it_shows():
    """No truth is known: that the back wall is flat to its noise, and that noise what the points claim."""
    from fieldstone.tools.measure import fit_plane

    found = decode(CAPTURE, CAPTURE, unit="mm")
    assert 1.5e6 < len(found.cloud) < 1.8e6
    assert found.measurement.parameters["row_error"] < 0.7
    rows, columns = np.divmod(found.cloud.pixels, 2048)
    box = found.cloud.select((columns > 720) & (columns < 1500) & (rows > 60) & (rows < 330))
    plane = fit_plane(box)
    assert plane.n_used > 0.9 * len(box)
    assert plane.extras["sigma"] == pytest.approx(float(np.median(box.sigma)), rel=0.35)
