"""Calibration from simulated board images: near the truth, by about what it claims, and honest about bad sets."""

from __future__ import annotations

import numpy as np
import pytest

from fieldstone.__main__ import main
from fieldstone.core.errors import UserError
from fieldstone.tools.measure import NotMeasurable
from fieldstone.tools.measure.simulate.boards import board_images, board_poses
from fieldstone.tools.measure.simulate.scanner import stereo_rig
from fieldstone.tools.measure.simulate.write import write_images
from fieldstone.tools.measure.structured_light import calibrate_corners, parse_board, read_calibration
from fieldstone.tools.measure.structured_light.board import Board, board_corners
from fieldstone.tools.measure.structured_light.geometry import project

BOARD = Board(9, 7, 15.0, "mm")


@pytest.fixture(scope="module")
def views():
    """A rig of 640 x 480 and its images of a board in 6 poses."""
    rig = stereo_rig(width=640, height=480, view=300.0)
    rng = np.random.default_rng(0)
    poses = board_poses(rig, BOARD, 6, rng)
    return rig, poses, board_images(rig, BOARD, poses, rng, samples=2)


def true_corners(rig, pose, right):
    local = BOARD.points()
    local = local - local.mean(axis=0)
    return project(rig.calibration, local @ pose[:3, :3].T + pose[:3, 3], right)


def test_corners_are_found_to_a_tenth_of_a_pixel(views):
    rig, poses, images = views
    errors = []
    for side, right in ((images[0], False), (images[1], True)):
        for image, pose in zip(side, poses):
            found = board_corners(image, BOARD)
            if found is None:
                continue
            truth = true_corners(rig, pose, right)
            distance = np.linalg.norm(found[:, None] - truth[None], axis=2).min(axis=1)
            errors.append(np.sqrt(np.mean(distance**2)))
    assert len(errors) >= 10
    assert np.median(errors) < 0.15
    assert (
        np.mean(np.array(errors) < 0.5) > 0.8
    )  # a board cut off by the border may be found one square aside


def test_a_calibration_from_images_is_as_near_the_truth_as_it_claims(views, tmp_path, capsys):
    rig, _, images = views
    write_images(tmp_path, *images)
    out = tmp_path / "c.yml"
    assert (
        main(
            [
                "measure",
                "calibrate",
                str(tmp_path),
                "--board",
                "9x7:15mm",
                "-o",
                str(out),
                "--json",
                str(tmp_path / "r.json"),
            ]
        )
        == 0
    )
    found = read_calibration(out)
    assert found.size == (640, 480) and found.unit == "mm"
    assert found.baseline == pytest.approx(rig.calibration.baseline, rel=3e-3)
    assert found.left.matrix[0, 0] == pytest.approx(rig.calibration.left.matrix[0, 0], rel=5e-3)
    middle = np.array([[0.0, 0.0, rig.distance]])
    for right in (False, True):  # what the rays do matters more than single parameters
        step = np.array([[30.0, 20.0, 0.0]])
        shift = project(found, middle + step, right) - project(found, middle, right)
        true = project(rig.calibration, middle + step, right) - project(rig.calibration, middle, right)
        np.testing.assert_allclose(shift, true, rtol=6e-3)


def test_uncertainty_covers_the_truth():
    """Corners with 0.05 px noise: the baseline's bootstrap deviation is that of repeated calibrations."""
    rig = stereo_rig(width=640, height=480, view=300.0)
    poses = board_poses(rig, BOARD, 7, np.random.default_rng(1))
    found, claimed = [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        sides = [
            np.array([true_corners(rig, pose, right) + 0.05 * rng.standard_normal((63, 2)) for pose in poses])
            for right in (False, True)
        ]
        _, result = calibrate_corners(*sides, BOARD, (640, 480), rng=rng, resamples=6)
        found.append(result.parameters["baseline"])
        claimed.append(result.standard_uncertainty()["baseline"])
        assert result.parameters["reprojection_error_px"] == pytest.approx(0.05 * np.sqrt(2), rel=0.25)
    pulls = (np.array(found) - rig.calibration.baseline) / np.array(claimed)
    assert np.sqrt(np.mean(pulls**2)) < 2.2
    assert np.median(claimed) < 0.5


def test_a_view_that_does_not_fit_is_left_out_and_named():
    rig = stereo_rig(width=640, height=480, view=300.0)
    poses = board_poses(rig, BOARD, 7, np.random.default_rng(1))
    rng = np.random.default_rng(2)
    left, right = (
        np.array([true_corners(rig, pose, side) + 0.03 * rng.standard_normal((63, 2)) for pose in poses])
        for side in (False, True)
    )
    left[4] += rng.normal(0, 2.0, left[4].shape)
    _, result = calibrate_corners(
        left, right, BOARD, (640, 480), views=[f"v{i}" for i in range(7)], rng=rng, resamples=2
    )
    assert any("views left out" in w and "v4" in w for w in result.warnings)
    assert result.parameters["views"] == 6
    _, flat = calibrate_corners(
        *(np.array([true_corners(rig, p, side) for p in poses[:1]] * 4) + 0.01 * rng.standard_normal((4, 63, 2)) for side in (False, True)),
        BOARD, (640, 480), rng=rng, resamples=2,
    )  # fmt: skip
    assert any("corners cover only" in w for w in flat.warnings)


def test_board_images_without_a_board_and_boards_without_sense(tmp_path):
    from fieldstone.tools.measure.structured_light import calibrate

    rng = np.random.default_rng(3)
    noise = rng.integers(0, 255, (5, 48, 64), dtype=np.uint8)
    write_images(tmp_path, noise, noise)
    with pytest.raises(NotMeasurable, match=r"whole in 0 of 5 views, at least 4 are needed"):
        calibrate(tmp_path, "9x7:15mm")
    for text, message in (
        ("9by7", "write inner corners"),
        ("9x7:20", "no unit of the square"),
        ("2x7:20mm", "at least 3 x 3"),
    ):
        with pytest.raises(UserError, match=message):
            parse_board(text)
    assert parse_board("9x7:0.8in").unit == "inch"
