"""The simulated scanner: a perfect one sees the part exactly, each flaw does what it says, and files hold the truth."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fieldstone.core.errors import UserError
from fieldstone.tools import measure
from fieldstone.tools.measure.io import read
from fieldstone.tools.measure.result import SCHEMA, read_json
from fieldstone.tools.measure.simulate import (
    FlangeShape,
    Flaws,
    Hole,
    biased,
    build,
    flange,
    scan,
    stereo_rig,
    view_pose,
    write_simulation,
)
from fieldstone.tools.measure.simulate.scanner import pixel_rays

PLATE = flange(FlangeShape(outer_radius=60.0, bore_radius=15.0, holes=(Hole(38.0, 0.0, 6.0, name="hole0"),)))


def seen(flaws=None, *, width=240, tilt=15.0, seed=0, part=PLATE):
    """(cloud, labels, placed part, pose, rig)."""
    rig = stereo_rig(width=width, height=width * 3 // 4, view=170.0, flaws=flaws)
    pose = view_pose(rig, tilt_deg=tilt, azimuth_deg=60)
    placed = part.placed(pose)
    cloud, label = scan(placed, rig, np.random.default_rng(seed))
    return cloud, label, placed, pose, rig


def own_frame(cloud, pose):
    return (cloud.world_points - pose[:3, 3]) @ pose[:3, :3]


def test_perfect_scanner_sees_faces_exactly_and_like_its_image():
    cloud, label, placed, pose, rig = seen()
    names = placed.table().labels
    local = own_frame(cloud, pose)
    face = label == names.index("face")
    assert face.mean() > 0.8
    assert np.abs(local[face, 2]).max() < 1e-9
    bore = label == names.index("bore")
    assert bore.sum() > 20
    assert np.abs(np.hypot(*local[bore, :2].T) - 15).max() < 1e-6
    assert set(label) <= {names.index(n) for n in ("face", "bore", "hole0", "rim")}  # the back is not seen
    # each point lies on the ray of its pixel
    width, height = rig.calibration.size
    assert cloud.shape == (height, width)
    rows, columns = np.divmod(cloud.pixels, width)
    _, rays = pixel_rays(rig, np.column_stack([columns, rows]).astype(float))
    np.testing.assert_allclose(np.cross(rays, cloud.points), 0, atol=1e-9 * rig.distance)
    # no point lies in the hole or the bore at the face's height
    near = np.hypot(local[face, 0] - 38, local[face, 1])
    assert near.min() > 6 - 1e-9


def test_what_one_camera_or_the_projector_cannot_see_is_missing():
    """Deep in a hole, walls are seen by one camera only: fewer of their points than of a single camera's rays."""
    from fieldstone.tools.measure.simulate.caster_cpu import cast_rays

    _, label, placed, _, rig = seen(tilt=0.0)
    table = placed.table()
    wall = table.labels.index("bore")
    width, height = rig.calibration.size
    rows, columns = np.mgrid[:height, :width]
    origin, rays = pixel_rays(rig, np.column_stack([columns.ravel(), rows.ravel()]).astype(float))
    _, face, _ = cast_rays(table, origin, rays)
    by_one = (table.label_of(face) == wall).sum()
    assert 0 < by_one
    assert (label == wall).sum() < 0.2 * by_one


def test_noise_has_the_stated_size_and_is_reproducible():
    cloud, label, placed, pose, _ = seen(Flaws(noise=0.05), tilt=0.0)
    again, *_ = seen(Flaws(noise=0.05), tilt=0.0)
    np.testing.assert_array_equal(cloud.points, again.points)
    face = label == placed.table().labels.index("face")
    middle = face & (np.hypot(*own_frame(cloud, pose)[:, :2].T) < 40)
    height = own_frame(cloud, pose)[middle, 2]
    # along the line of sight, half the rig's angle from the normal
    slant = np.cos(np.arctan2(125.0, 600.0))
    assert height.std() == pytest.approx(0.05 * slant, rel=0.08)
    assert (height / slant / cloud.sigma[middle]).std() == pytest.approx(1, abs=0.05)


def test_blur_moves_edges_sideways_and_not_in_depth():
    cloud, label, placed, pose, _ = seen(Flaws(blur=0.6), tilt=0.0)
    local = own_frame(cloud, pose)
    face = label == placed.table().labels.index("face")
    inside = 6 - np.hypot(local[face, 0] - 38, local[face, 1])
    assert inside.max() > 0.3  # some points of the face lie in the hole
    # along the left camera's slanted rays: a twelfth of a pixel's 0.7 mm, times 0.6
    assert local[face, 2].std() < 0.12


def test_ripple_drop_out_clutter_and_mixed_points():
    plain, *_ = seen()
    cloud, label, placed, pose, rig = seen(Flaws(ripple=0.04))
    face = label == placed.table().labels.index("face")
    u = rig.projector.coordinate(cloud.points[face])
    turns = 2 * np.pi * rig.pattern.fringes * rig.pattern.steps * u
    wave = own_frame(cloud, pose)[face, 2]
    amplitude = 2 * np.hypot((wave * np.sin(turns)).mean(), (wave * np.cos(turns)).mean())
    assert 0.025 < amplitude < 0.045
    lost, *_ = seen(Flaws(drop_out=0.2))
    assert len(lost) == pytest.approx(0.8 * len(plain), rel=0.02)
    strewn, marks, *_ = seen(Flaws(clutter=0.1))
    assert (marks == -1).mean() == pytest.approx(0.1, abs=0.015)
    assert np.ptp(strewn.points[:, 2]) > 2 * np.ptp(plain.points[:, 2])
    between, names, placed, pose, _ = seen(Flaws(mixed=1.0))
    local = own_frame(between, pose)
    near_rim = (names == placed.table().labels.index("face")) & (np.abs(local[:, 2]) > 0.5)
    assert near_rim.sum() > 5


def test_bias_of_the_calibration_is_what_it_says():
    """A baseline believed 1000 ppm too short makes everything 1000 ppm smaller."""
    plain, *_ = seen(tilt=0.0)
    cloud, *_, rig = seen(Flaws(scale_bias_ppm=1000), tilt=0.0)
    assert np.median(plain.points[:, 2] / cloud.points[:, 2]) - 1 == pytest.approx(1e-3, rel=1e-3)
    turned, *_ = seen(Flaws(rotation_bias_deg=0.01), tilt=0.0)
    assert 0.05 < abs(np.median(turned.points[:, 2] - plain.points[:, 2])) < 5
    believed = biased(rig.calibration, Flaws(rotation_bias_deg=0.01))
    cosine = (np.trace(believed.rotation @ rig.calibration.rotation.T) - 1) / 2
    assert np.degrees(np.arccos(cosine)) == pytest.approx(0.01, rel=1e-3)


def test_a_part_out_of_view_is_refused():
    rig = stereo_rig(width=160, height=120)
    with pytest.raises(UserError, match="the scanner sees nothing"):
        scan(PLATE.placed(view_pose(rig, shift=(2000.0, 0.0, 0.0))), rig, np.random.default_rng(0))


def test_scan_of_a_flange_is_measured_within_its_uncertainty():
    cloud, _, placed, _, _ = seen(Flaws(noise=0.03, blur=0.4), width=640)
    found = measure.measure_flange(cloud)
    sd = found.standard_uncertainty()
    truth = placed.feature("bore edge").parameters
    assert abs(found["bore"]["radius"] - 15) < 4 * sd["bore.radius"]
    off = np.array(found["bore"]["centre"]) - truth["centre"]
    assert np.linalg.norm(off) < 4 * np.sqrt(sum(sd[f"bore.centre.{a}"] ** 2 for a in "xyz"))
    assert found["normal"] @ placed.feature("face").parameters["normal"] > 1 - 1e-8


@pytest.mark.parametrize("way", ["scan", "surface", "images"])
def test_files_hold_cloud_or_images_and_the_truth_in_the_reports_schema(tmp_path, way):
    rng = np.random.default_rng(0)
    written = write_simulation(
        tmp_path, build("keyed-flange", rng), rng, way=way, unit="m", points=5000, width=160
    )
    truth = read_json(written["truth"])
    assert all(m.unit == "m" for m in truth)
    assert json.loads(written["truth"].read_text())["schema"] == SCHEMA
    kinds = [m.kind for m in truth]
    assert kinds.count("circle") == 13 and kinds.count("cylinder") == 14 and kinds.count("plane") == 1
    radii = sorted(m["radius"] for m in truth if m.kind == "circle")
    assert radii == pytest.approx([0.0055] * 12 + [0.04])
    if way == "images":
        assert len(list((tmp_path / "L").glob("*.png"))) == len(list((tmp_path / "R").glob("*.png"))) >= 10
        from fieldstone.tools.measure.structured_light import read_calibration

        assert read_calibration(written["calibration"], unit="m").size == (160, 120)
    else:
        cloud = read(written["cloud"], unit="m")
        plane = next(m for m in truth if m.kind == "plane")
        height = (cloud.world_points - plane["point"]) @ plane["normal"]
        assert (np.abs(height) < 0.4e-3).mean() > 0.3


def test_command_refuses_nonsense(tmp_path):
    import argparse

    from fieldstone.tools.measure.cli import add_subcommands, run

    parser = argparse.ArgumentParser()
    add_subcommands(parser)
    args = parser.parse_args(["simulate", "flange", "-o", str(tmp_path), "--noise", "-1"])
    args.debug = False
    assert run(args) == 2
    args = parser.parse_args(
        ["simulate", "stud", "-o", str(tmp_path), "--as", "surface", "--points", "3000", "--unit", "mm"]
    )
    args.debug = False
    assert run(args) == 0
    assert (tmp_path / "stud.ply").exists()
