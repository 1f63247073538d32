"""The synthetic street, and KITTI-360's and KITTI raw's readers on what is written and on what is damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fieldstone import datasets
from fieldstone.core.errors import UserError
from fieldstone.datasets.lidar import Gathering, read_velodyne, uncurl
from fieldstone.datasets.synthetic.street import WIDE
from fieldstone.datasets.synthetic.street_files import DRIVE, street_cameras
from fieldstone.render.cameras import Rays
from fieldstone.render.rasterise import fragments

FRAMES, WIDTH, HEIGHT = 6, 64, 24
KITTI = Path(__file__).resolve().parents[3] / "shared" / "data" / "kitti_20110926"


@pytest.fixture
def tree(street_tree):
    return street_tree


@pytest.fixture
def copy(tree, tmp_path):
    shutil.copytree(tree[0], tmp_path / "copy")
    return tmp_path / "copy"


def distance_to(street, points):
    """Of points to the street's surface, along the six axes: an upper bound."""
    points = torch.as_tensor(points, dtype=torch.float64)
    ways = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    # from a little before the point, so that a surface it lies on is met
    origins = (points[:, None] - 0.3 * ways).reshape(-1, 3)
    found = fragments(
        street.vertices, street.faces, Rays(origins, ways.repeat(len(points), 1), torch.ones(len(origins))), 4
    )
    off = torch.where(found.mask, (found.distance - 0.3).abs(), torch.inf)
    return off.reshape(len(points), -1).amin(1).numpy()


def test_the_street_is_read_as_kitti_360(tree):
    folder, _ = tree
    capture = datasets.open(folder)
    assert capture.format == "kitti-360" and capture.name == DRIVE
    assert [len(capture.splits[name]) for name in ("train", "test")] == [4, 3]
    assert any("2 images have no pose" in note for note in capture.notes)
    for camera in (0, 1):
        truth = street_cameras(FRAMES, WIDTH, HEIGHT, camera=camera)
        for number in (0, 1, 3, 4, 5):
            index = capture.names.index(f"image_{camera:02d}/{number:010d}.png")
            mine = capture.cameras[index]
            np.testing.assert_allclose(mine.camera_to_world[0], truth.camera_to_world[number], atol=1e-9)
            np.testing.assert_allclose(mine.params[0], truth.params[number], rtol=1e-9)
    # KITTI-360's own check: pose @ cam_to_pose @ inv(R_rect) of camera 00 is cam0_to_world
    rows = np.loadtxt(folder / "data_poses" / DRIVE / "cam0_to_world.txt")
    index = capture.names.index("image_00/0000000003.png")
    row = rows[rows[:, 0] == 3][0, 1:].reshape(4, 4)
    np.testing.assert_allclose(capture.cameras.camera_to_world[index], row, atol=1e-9)
    assert datasets.open(folder / "data_2d_raw" / DRIVE).names == capture.names


def test_the_cloud_is_straightened_onto_the_surfaces(tree):
    folder, street = tree
    capture = datasets.open(folder)
    assert len(capture.points) > 2000
    near = distance_to(street, capture.points[::7])
    assert np.median(near) < 0.02 and np.quantile(near, 0.95) < 0.1


def test_the_scanner_sees_what_that_of_kitti_sees(tree):
    folder, street = tree
    low, high = [], []
    for scan in (folder / "data_3d_raw" / DRIVE / "velodyne_points" / "data").glob("*.bin"):
        points = read_velodyne(scan)
        height = np.degrees(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])))
        low.append(height.min())
        high.append(height.max())
    assert min(low) == pytest.approx(-24.9, abs=1e-3) and max(high) == pytest.approx(2.0, abs=1e-3)
    wide = street.scan(np.eye(4), np.eye(4), np.random.default_rng(0), beams=WIDE, columns=40, dropout=0)
    height = np.degrees(np.arctan2(wide[:, 2], np.hypot(wide[:, 0], wide[:, 1])))
    assert height.max() == pytest.approx(30, abs=1e-3)


def test_uncurling_undoes_the_motion_of_the_scan():
    step = np.eye(4)
    step[:3, :3] = Rotation.from_rotvec([0.0, 0.02, 0.1]).as_matrix()
    step[:3, 3] = [1.2, 0.1, 0.0]
    generator = np.random.default_rng(0)
    still = generator.uniform(-20, 20, (200, 3))
    seen = still.copy()
    for _ in range(30):  # the moment of a return hangs on where it is seen
        share = np.arctan2(seen[:, 1], seen[:, 0])[:, None] / (2 * np.pi)
        turn = Rotation.from_rotvec(share * Rotation.from_matrix(step[:3, :3]).as_rotvec())
        seen = turn.inv().apply(still - share * step[:3, 3])
    wrapped = np.abs(np.arctan2(seen[:, 1], seen[:, 0])) > 3.0
    np.testing.assert_allclose(uncurl(seen, step)[~wrapped], still[~wrapped], atol=1e-6)
    assert np.abs(seen - still).max() > 0.3


def test_the_truth_of_the_street_agrees_with_itself(tree):
    street = tree[1]
    cameras = street_cameras(2, 80, 30, shift=1.0)
    moved = cameras.positions[0] - street_cameras(2, 80, 30).positions[0]
    assert moved.norm() == pytest.approx(1.0) and float(moved[1]) < -0.9  # to the right
    view = street.render(cameras, 1)
    seen = view["z_depth"] > 0
    assert 0.5 < seen.mean() < 1 and (view["semantic"][~seen] == 255).all()
    rays = cameras.image_rays(1)
    towards = (view["normals"].reshape(-1, 3) * rays.directions.numpy()).sum(1)
    assert (towards[seen.reshape(-1)] < 1e-6).all()
    points = (
        rays.origins
        + rays.directions * (torch.from_numpy(view["z_depth"]).reshape(-1) / rays.z_per_distance)[:, None]
    )
    assert distance_to(street, points[torch.from_numpy(seen.reshape(-1))][::17]).max() < 1e-3
    assert 0.05 < view["colour"].std() and view["colour"].max() <= 1


def test_damaged_trees_are_refused_in_one_line(copy):
    scan = copy / "data_3d_raw" / DRIVE / "velodyne_points" / "data" / "0000000001.bin"
    scan.write_bytes(scan.read_bytes()[:-5])
    with pytest.raises(UserError, match=r"0000000001\.bin: \d+ bytes is no whole number of points"):
        datasets.open(copy)
    scan.unlink()
    assert any("1 of 5 frames have no scan" in note for note in datasets.open(copy).notes)
    poses = copy / "data_poses" / DRIVE / "poses.txt"
    text = poses.read_text()
    poses.write_text(text.replace("\n4 ", "\n4 nan "))
    with pytest.raises(UserError, match=r"poses.txt: line 4: 14 numbers, 13 finite ones are needed"):
        datasets.open(copy)
    poses.write_text("\n".join("9" + line for line in text.splitlines()))
    with pytest.raises(UserError, match=r"no image of .* has a pose; poses.txt has frames 90 to 95"):
        datasets.open(copy)
    poses.write_text(text)
    shutil.copytree(copy / "data_2d_raw" / DRIVE, copy / "data_2d_raw" / "another_drive")
    with pytest.raises(UserError, match="2 drives"):
        datasets.open(copy)


def test_the_cloud_is_thinned_as_scans_come():
    gathering = Gathering(spacing=0.5)
    points = np.random.default_rng(0).uniform(3, 8, (5000, 3))
    world = np.eye(4)
    world[:3, 3] = [3.5e6, 4.2e5, 100.0]  # as UTM: float32 alone would lose it
    for _ in range(3):
        gathering.add(points, world)
    cloud = gathering.cloud()
    assert len(cloud) <= 1331 and gathering.scans == 3
    assert np.abs(cloud - world[:3, 3]).max() < 8.1


def test_kitti_raw_drives_are_read():
    if not KITTI.is_dir():
        pytest.skip("needs ../shared/data/kitti_20110926, which is not on this machine")
    capture = datasets.open(KITTI)
    assert capture.format == "kitti-raw" and len(capture) == 16
    assert [len(capture.splits[name]) for name in ("train", "test")] == [12, 4]
    # scanner returns land where they are in the picture: the car ahead of the first frame, the road below the horizon
    pixels, z = capture.cameras.project(torch.from_numpy(capture.points), torch.tensor([0]))
    width, height = capture.cameras.size(0)
    inside = (
        (z > 0) & (pixels[:, 0] > 0) & (pixels[:, 0] < width) & (pixels[:, 1] > 0) & (pixels[:, 1] < height)
    )
    assert inside.float().mean() > 0.1
    road = inside & (torch.from_numpy(capture.points[:, 2]) < -1.5)
    assert (pixels[road, 1] > 172).float().mean() > 0.97
