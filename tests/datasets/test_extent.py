"""The cube a field is laid into: inward, forward and outward captures, strays, cut-out objects."""

from __future__ import annotations

import numpy as np
import pytest

from fieldstone import datasets
from fieldstone.datasets.extent import Extent, _meeting_point, extent_from_cameras

from .conftest import look_at


def around(n=24, radius=3.0, centre=(1.0, 2.0, 3.0), arc=2 * np.pi):
    angles = np.linspace(0, arc, n, endpoint=False)
    offsets = np.stack([radius * np.cos(angles), radius * np.sin(angles), 0.5 * np.sin(5 * angles)], axis=1)
    return np.stack([look_at(np.add(centre, offset), centre) for offset in offsets])


def test_meeting_point_is_where_axes_meet():
    poses = around()
    poses[3] = look_at(poses[3][:3, 3], (9, 9, 9))  # one camera that looks elsewhere
    focus, spread = _meeting_point(poses[:, :3, 3], poses[:, :3, 2])
    assert focus == pytest.approx([1, 2, 3], abs=1e-3) and spread > 0.1


def test_all_around():
    poses = around()
    extent = extent_from_cameras(poses, np.full(24, 0.4))
    assert not extent.bounded and extent.contains(poses[:, :3, 3]).all()
    assert extent.centre == pytest.approx([1, 2, 3], abs=0.1) and 3 <= extent.half_side < 3.3


def test_from_one_side_is_tighter_than_a_cube_about_the_focus():
    poses = around(radius=6.0, arc=np.pi / 3)
    extent = extent_from_cameras(poses, np.full(24, 0.3))
    assert extent.contains(poses[:, :3, 3]).all() and extent.contains(np.array([1, 2, 3]))
    assert extent.half_side < 5


def test_a_stray_camera_does_not_blow_it_up():
    poses = around()
    poses[5, :3, 3] += 1000
    assert extent_from_cameras(poses, np.full(24, 0.4)).half_side < 4


def test_cut_out_object_is_bounded():
    extent = extent_from_cameras(around(), np.full(24, 0.4), bounded=True)
    assert extent.bounded and extent.half_side == pytest.approx(1.25 * 0.4 * np.hypot(3, 0.3), rel=0.02)
    assert extent.centre == pytest.approx([1, 2, 3], abs=0.05)


def forward(n=20):
    generator = np.random.default_rng(0)
    positions = generator.uniform(-0.3, 0.3, (n, 3)) * [1, 0.1, 1]
    return np.stack([look_at(p, (p[0] * 0.5, 10, p[2] * 0.5)) for p in positions])


def test_forward_by_bounds_points_and_baseline():
    poses = forward()
    for extra, reach in (
        ({"near_far": (2.0, 50.0)}, 6),
        ({"near_far": (2.0, 4.0)}, 4),
        ({"points": np.random.default_rng(0).uniform([-1, 3, -1], [1, 5, 1], (500, 3))}, 4.9),
    ):
        extent = extent_from_cameras(poses, np.full(20, 0.4), **extra)
        assert extent.contains(poses[:, :3, 3]).all() and not extent.bounded
        assert extent.centre[1] == pytest.approx(reach / 2, rel=0.05)
        assert extent.half_side == pytest.approx(reach / 2, rel=0.2)
    extent = extent_from_cameras(poses, np.full(20, 0.4))
    assert 1.5 < extent.centre[1] < 3


def test_outward():
    poses = around(radius=0.2, centre=(0, 0, 0))
    poses[:, :3, [0, 2]] *= -1  # turned round
    points = np.random.default_rng(0).uniform(-5, 5, (2000, 3))
    extent = extent_from_cameras(poses, np.full(24, 0.5), points)
    assert extent.contains(poses[:, :3, 3]).all() and extent.half_side == pytest.approx(4.1, abs=0.3)
    assert extent_from_cameras(poses, np.full(24, 0.5)).half_side < 1.5


def test_one_place_and_one_direction_still_give_a_cube():
    """A tripod that only saw one thing is useless, but must not end in NaN."""
    extent = extent_from_cameras(np.stack([np.eye(4)] * 3), np.full(3, 0.5))
    assert np.isfinite(extent.centre).all() and extent.half_side > 0


def test_json_round_trip():
    extent = Extent(np.array([1.0, 2.0, 3.0]), 4.0, True)
    again = Extent.from_json(extent.to_json())
    assert again.centre.tolist() == [1, 2, 3] and again.half_side == 4 and again.bounded


def test_blender_layout_far_from_the_box(tmp_path, ring, pictures):
    """A Blender-like capture of something that is not in the benchmark's box gets an extent of its own."""
    cameras = ring(params=(30, 30, 16, 12))
    poses = cameras.camera_to_world.clone()
    poses[:, :3, 3] += 100
    from fieldstone.datasets import write_blender

    write_blender(tmp_path, pictures(channels=4), cameras.with_poses(poses), {"train": range(10)})
    capture = datasets.open(tmp_path)
    assert capture.extent.contains(np.full(3, 100.0)) and not capture.extent.contains(np.zeros(3))
    assert any("do not look at the format's box" in note for note in capture.notes)
