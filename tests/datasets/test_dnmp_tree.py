"""Sequences as DNMP's preprocessing leaves them, of KITTI-360 and of Waymo, written here after its scripts."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from fieldstone import datasets
from fieldstone.core.errors import UserError
from fieldstone.datasets.synthetic.street_files import DRIVE, street_cameras

FRAMES, WIDTH, HEIGHT = 6, 64, 24


def clipped(depth: np.ndarray) -> np.ndarray:
    """As colmap_bin2npy.py: everything to between the 1st and the 95th percentile, what is unknown (0) too."""
    depth = depth.astype(np.float32)
    low, high = np.percentile(depth, [1, 95])
    depth[depth < low] = low
    depth[depth > high] = high
    return depth


@pytest.fixture
def kitti(street_tree, tmp_path):
    """SAVE_DIR/seq_1 of preprocess_kitti.py, with the cloud and depth that its users add."""
    tree, street = street_tree
    save = tmp_path / "save"
    for name in ("calibration", "data_poses"):
        shutil.copytree(tree / name, save / name)
    sequence = save / "seq_1"
    for name in ("train_imgs", "test_imgs", "depth", "normal", "image_00"):
        (sequence / name).mkdir(parents=True)
    cameras = street_cameras(FRAMES, WIDTH, HEIGHT)
    points = []
    for number in (0, 1, 3, 4, 5):
        for camera in (0, 1):
            source = tree / "data_2d_raw" / DRIVE / f"image_{camera:02d}" / "data_rect" / f"{number:010d}.png"
            if number % 2 == 0:
                shutil.copy(source, sequence / "train_imgs" / f"{camera:02d}_{source.name}")
            elif camera == 0:
                shutil.copy(source, sequence / "test_imgs" / f"00_{source.name}")
        z = street.render(cameras, number, samples=1)["z_depth"]
        if number % 2 == 0:
            np.save(sequence / "depth" / f"00_{number:010d}.png.geometric.npy", clipped(z))
        rays = cameras.image_rays(number)
        seen = (z > 0).reshape(-1)
        distance = torch.from_numpy(z.reshape(-1)) / rays.z_per_distance
        points.append((rays.origins + rays.directions * distance[:, None])[torch.from_numpy(seen)].numpy())
    np.save(sequence / "center_point.npy", np.eye(4))
    np.savez(sequence / "pcd.npz", pts=np.concatenate(points))
    return sequence, street


@pytest.fixture
def waymo(tmp_path, ring, pictures):
    """SAVE_DIR/seq_1 of preprocess_waymo.py: every tenth image tests, names are frame numbers."""
    cameras, images = ring(12, params=(30.0, 31.0, 15.5, 12.25)), pictures(12)
    sequence = tmp_path / "seq_1"
    poses = {"train": [], "test": []}
    for number, image in enumerate(images):
        split = "test" if number % 10 == 0 and number else "train"
        folder = sequence / f"{split}_imgs"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number + 135:06d}.png")
        poses[split].append(cameras.camera_to_world[number].numpy())
    for split in poses:
        np.save(sequence / f"{split}_poses.npy", np.stack(poses[split]))
    np.save(sequence / "intrinsics.npy", np.array([[30.0, 0, 15.5], [0, 31.0, 12.25], [0, 0, 1]]))
    np.save(sequence / "center_point.npy", poses["train"][6])
    np.savez_compressed(sequence / "pcd.npz", pts=np.random.default_rng(0).normal(0, 0.4, (300, 3)))
    return sequence, cameras


def refusal(path) -> str:
    with pytest.raises(UserError) as error:
        datasets.open(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_sequence_of_kitti_360(kitti):
    sequence, street = kitti
    capture = datasets.open(sequence)
    assert capture.format == "dnmp" and capture.name == "seq_1"
    assert [len(capture.splits[name]) for name in ("train", "test")] == [4, 3]
    for camera, number in ((0, 4), (1, 0)):
        index = capture.names.index(f"train_imgs/{camera:02d}_{number:010d}.png")
        truth = street_cameras(FRAMES, WIDTH, HEIGHT, camera=camera)
        np.testing.assert_allclose(
            capture.cameras.camera_to_world[index], truth.camera_to_world[number], atol=1e-9
        )
        np.testing.assert_allclose(capture.cameras.params[index], truth.params[number], rtol=1e-9)
    # depth is the true one where it was not clipped, and unknown where it was: the sky, and what is farthest
    index = capture.names.index("train_imgs/00_0000000004.png")
    depth, truth = (
        capture.z_depths[index],
        street.render(street_cameras(FRAMES, WIDTH, HEIGHT), 4, samples=1)["z_depth"],
    )
    known = depth > 0
    np.testing.assert_allclose(depth[known], truth[known], rtol=1e-6)
    assert 0.5 < known[truth > 0].mean() < 0.97 and not known[truth == 0].any()
    assert (capture.z_depths[capture.names.index("train_imgs/01_0000000004.png")] == 0).all()
    assert len(capture.points) > 1000 and capture.points.dtype == np.float64


def test_a_sequence_of_waymo(waymo):
    sequence, cameras = waymo
    capture = datasets.open(sequence)
    assert capture.format == "dnmp" and [len(capture.splits[name]) for name in ("train", "test")] == [11, 1]
    assert capture.names[capture.splits["test"][0]] == "test_imgs/000145.png"
    index = capture.names.index("train_imgs/000146.png")
    np.testing.assert_allclose(
        capture.cameras.camera_to_world[index], cameras.camera_to_world[11], atol=1e-12
    )
    assert capture.cameras.models[index] == "PINHOLE" and len(capture.points) == 300
    assert any("lens distortion" in note for note in capture.notes)


@pytest.mark.parametrize("factor", [1000.0, 0.1])
def test_depth_in_another_unit_is_refused_with_the_ratio(kitti, factor):
    sequence, _ = kitti
    for file in (sequence / "depth").glob("*.npy"):
        np.save(file, np.load(file) * factor)
    message = refusal(sequence)
    said = float(re.search(r"depths are ([\d.e+-]+) times the distances of the points", message)[1])
    remedy = float(re.search(r"multiply one by ([\d.e+-]+),", message)[1])
    assert said == pytest.approx(factor, rel=0.02) and said * remedy == pytest.approx(1, rel=1e-3)
    for file in (sequence / "depth").glob("*.npy"):
        np.save(file, np.load(file) * 2 / factor)  # twice what it should be: bad, and no unit
    datasets.open(sequence)


def test_points_elsewhere_are_refused_with_their_distance(kitti):
    sequence, _ = kitti
    points = np.load(sequence / "pcd.npz")["pts"]
    np.savez(sequence / "pcd.npz", pts=points - [900.0, 0, 0])
    message = refusal(sequence)
    assert f"pcd.npz: of {len(points)} points none is seen by any of 7 cameras, the nearest is 8" in message
    assert "not in one frame or unit" in message
    np.savez(sequence / "pcd.npz", pts=np.full((50, 3), np.nan))
    assert "50 points, none of them finite" in refusal(sequence)
    np.savez(sequence / "pcd.npz", pts=np.zeros((0, 3)))
    assert "0 points, none of them finite" in refusal(sequence)
    points[::2] = np.inf
    np.savez(sequence / "pcd.npz", pts=points)
    with pytest.raises(UserError, match="values are not finite"):
        datasets.open(sequence)
    points[::2] = np.nan
    np.savez(sequence / "pcd.npz", pts=points)
    assert any("points are not finite and are left out" in note for note in datasets.open(sequence).notes)
    np.savez(sequence / "pcd.npz", points=points)
    assert "expected the key pts, found points" in refusal(sequence)
    (sequence / "pcd.npz").unlink()
    assert any("no points (pcd.npz is not there" in note for note in datasets.open(sequence).notes)


def test_images_without_pose_and_odd_names(kitti):
    sequence, _ = kitti
    images = sequence / "train_imgs"
    shutil.copy(images / "00_0000000004.png", images / "00_0000000002.png")  # the frame without pose
    shutil.copy(images / "00_0000000004.png", images / "cover.png")
    notes = datasets.open(sequence).notes
    assert any("1 images have no pose and are left out: 00_0000000002.png" in note for note in notes)
    assert any("cover.png is left out" in note for note in notes)
    poses = sequence.parent / "data_poses" / DRIVE / "poses.txt"
    poses.write_text("\n".join("9" + line for line in poses.read_text().splitlines()))
    assert "no image has a pose; poses.txt of" in refusal(sequence)
    shutil.copytree(poses.parent, poses.parent.parent / "2013_05_28_drive_0002_sync")
    assert "2 drives with a poses.txt" in refusal(sequence)


def test_damaged_waymo_sequences(waymo):
    sequence, _ = waymo
    poses = np.load(sequence / "train_poses.npy")
    np.save(sequence / "train_poses.npy", poses[:-1])
    assert "10 poses and 11 images in train_imgs" in refusal(sequence)
    np.save(sequence / "train_poses.npy", poses[:, 0])
    assert "shape (11, 4), (n, 4, 4) is needed" in refusal(sequence)
    np.save(sequence / "train_poses.npy", np.array([{"a": 1}], dtype=object))
    assert "train_poses.npy: cannot be read" in refusal(sequence)
    np.save(sequence / "train_poses.npy", poses)
    np.save(sequence / "intrinsics.npy", np.eye(4))
    assert "intrinsics.npy: shape (4, 4), (3, 3) is needed" in refusal(sequence)
    (sequence / "intrinsics.npy").unlink()
    assert "intrinsics.npy: cannot be read" in refusal(sequence)
