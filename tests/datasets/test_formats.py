"""Each format written and read back; what is recognised, and how failures are told."""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest
import torch

from fieldstone import datasets
from fieldstone.core.errors import UserError
from fieldstone.datasets.writers import write_blender, write_colmap, write_image, write_transforms_json
from fieldstone.render.cameras import CAMERA_MODELS, PARAMETER_NAMES, Cameras

MODELS = {
    "SIMPLE_PINHOLE": (30, 15.5, 12.25),
    "PINHOLE": (30, 31, 15.5, 12.25),
    "SIMPLE_RADIAL": (30, 15.5, 12.25, 0.05),
    "RADIAL": (30, 15.5, 12.25, 0.05, -0.01),
    "OPENCV": (30, 31, 15.5, 12.25, 0.05, -0.01, 0.001, -0.002),
    "OPENCV_FISHEYE": (30, 31, 15.5, 12.25, 0.05, -0.01, 0.001, -0.002),
    "FULL_OPENCV": (30, 31, 15.5, 12.25, 0.05, -0.01, 0.001, -0.002, 0.003, 0.01, 0.002, 0.001),
    "FOV": (30, 31, 15.5, 12.25, 0.4),
    "SIMPLE_RADIAL_FISHEYE": (30, 15.5, 12.25, 0.05),
    "RADIAL_FISHEYE": (30, 15.5, 12.25, 0.05, -0.01),
    "THIN_PRISM_FISHEYE": (30, 31, 15.5, 12.25, 0.05, -0.01, 0.001, -0.002, 0.003, 0.01, 0.002, 0.001),
    "SIMPLE_FISHEYE": (30, 15.5, 12.25),
    "FISHEYE": (30, 31, 15.5, 12.25),
    "EQUIRECTANGULAR": (),
}


def names_of(n: int) -> list[str]:
    return [f"images/{i:03d}.png" for i in range(n)]


def assert_same(capture, cameras: Cameras, images, intrinsics_tolerance=0.0) -> None:
    assert torch.equal(capture.cameras.sizes, cameras.sizes)
    assert (capture.cameras.params - cameras.params).abs().max() <= intrinsics_tolerance
    assert (capture.cameras.camera_to_world - cameras.camera_to_world).abs().max() < 1e-9
    for i, image in enumerate(images):
        assert np.array_equal(capture.images.uint8(i), image)


def test_every_model_has_a_case():
    assert MODELS.keys() == CAMERA_MODELS.keys()


def test_blender(tmp_path, ring, pictures):
    cameras, images = ring(params=(30, 30, 16, 12)), pictures(channels=4)
    write_blender(tmp_path, images, cameras, {"train": range(7), "test": [7, 8], "val": [9]})
    capture = datasets.open(tmp_path)
    order = [0, 1, 2, 3, 4, 5, 6, 9, 7, 8]  # train, val, test
    assert_same(capture, cameras[order], [images[i] for i in order], 1e-12)
    assert {name: index.tolist() for name, index in capture.splits.items()} == {
        "train": list(range(7)),
        "val": [7],
        "test": [8, 9],
    }
    assert capture.background == "white" and capture.colour_space == "srgb" and capture.times is None
    assert capture.extent.half_side == 1.5 and capture.extent.bounded and not capture.extent.centre.any()
    assert capture.names[0] == "train/r_0.png" and capture.format == "blender"


def test_blender_axes(tmp_path, pictures):
    """A camera at z = 4 with identity rotation looks down the world's -z (Blender), up stays +y."""
    (tmp_path / "train").mkdir()
    pose = np.eye(4)
    pose[2, 3] = 4
    frames = [{"file_path": f"train/r_{i}", "transform_matrix": pose.tolist()} for i in range(2)]
    for i, image in enumerate(pictures(2, channels=4)):
        write_image(tmp_path / f"train/r_{i}.png", image)
    (tmp_path / "transforms_train.json").write_text(
        json.dumps({"camera_angle_x": np.pi / 2, "frames": frames})
    )
    cameras = datasets.open(tmp_path).cameras
    assert cameras.params[0, :4].tolist() == pytest.approx([16, 16, 16, 12])
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=torch.float64)
    pixels, z_depth = cameras.project(points, torch.tensor([0]))
    assert pixels.tolist() == [pytest.approx([16, 12]), pytest.approx([20, 12]), pytest.approx([16, 8])]
    assert z_depth.tolist() == pytest.approx([4, 4, 4])


def test_dnerf_times(tmp_path, ring, pictures):
    times = np.linspace(0, 1, 10)
    cameras = ring(params=(30, 30, 16, 12))
    write_blender(tmp_path, pictures(channels=4), cameras, {"train": range(8), "test": [8, 9]}, times=times)
    assert datasets.open(tmp_path).times == pytest.approx(times.astype(np.float32))


@pytest.mark.parametrize("model", [m for m in MODELS if m not in ("FOV", "THIN_PRISM_FISHEYE")])
def test_transforms_json_lenses(tmp_path, ring, pictures, model):
    cameras, images = ring(4, model, MODELS[model]), pictures(4)
    write_transforms_json(tmp_path, cameras, names_of(4), images=images)
    capture = datasets.open(tmp_path)
    read = capture.cameras
    assert (read.camera_to_world - cameras.camera_to_world).abs().max() < 1e-9
    pixels = torch.tensor([[x, y] for x in (2.0, 16.0, 30.0) for y in (2.0, 12.0, 22.0)], dtype=torch.float64)
    assert torch.equal(
        read.unproject(pixels, torch.tensor([2])), cameras.unproject(pixels, torch.tensor([2]))
    )
    if len(PARAMETER_NAMES[model]) and PARAMETER_NAMES[model][0] == "fx" and model != "FISHEYE":
        assert torch.equal(read.params, cameras.params)


def test_transforms_json_everything(tmp_path, ring, pictures):
    cameras, images = ring(), pictures()
    generator = np.random.default_rng(1)
    masks = [generator.random((24, 32)) > 0.5 for _ in range(10)]
    depths = [generator.random((24, 32)).astype(np.float32) + 1 for _ in range(10)]
    depths[0][0, 0] = 0
    points = generator.normal(size=(50, 3)).astype(np.float32)
    colours = generator.integers(0, 256, (50, 3), dtype=np.uint8)
    write_transforms_json(
        tmp_path,
        cameras,
        names_of(10),
        images=images,
        masks=masks,
        z_depths=depths,
        points=points,
        point_colours=colours,
        splits={"train": [0, 2, 4, 6, 8], "test": [1, 3], "val": [5]},
        times=np.arange(10) / 9,
    )
    for path in (tmp_path, tmp_path / "transforms.json"):
        capture = datasets.open(path)
        assert_same(capture, cameras, images)
        assert all(np.array_equal(capture.masks[i], mask) for i, mask in enumerate(masks))
        assert all(np.array_equal(capture.z_depths[i], depth) for i, depth in enumerate(depths))
        assert np.array_equal(capture.points, points) and np.array_equal(capture.point_colours, colours)
        assert capture.split("train").tolist() == [0, 2, 4, 6, 8] and capture.split("val").tolist() == [5]
        assert capture.split("test").tolist() == [1, 3] and len(capture.split("all")) == 10
        assert capture.times == pytest.approx(np.arange(10) / 9)
        assert any("in no split" in note for note in capture.notes)
    assert any("50 points, masks, z_depths, times" in line for line in capture.summary())
    halves = datasets.open(tmp_path, downscale=2)
    assert halves.masks[3].shape == halves.z_depths[3].shape == (12, 16)
    with pytest.raises(UserError, match="no split 'dev'; there are train"):
        capture.split("dev")


def transforms(tmp_path, frame_changes=(), **keys):
    """Rewrites the transforms.json in `tmp_path` with other keys; None removes one."""
    file = tmp_path / "transforms.json"
    value = json.loads(file.read_text())
    for key, new in keys.items():
        value.pop(key, None)
        if new is not None:
            value[key] = new
    for frame, changes in zip(value["frames"], frame_changes):
        for key, new in changes.items():
            frame.pop(key, None)
            if new is not None:
                frame[key] = new
    file.write_text(json.dumps(value))


NO_LENS = dict.fromkeys(("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_model"))


@pytest.fixture
def written(tmp_path, ring, pictures):
    write_transforms_json(tmp_path, ring(), names_of(10), images=pictures())
    return tmp_path


@pytest.mark.parametrize(
    ("keys", "focal"),
    [
        ({"camera_angle_x": np.pi / 2}, (16, 16)),
        ({"camera_angle_x": np.pi / 2, "camera_angle_y": np.pi / 2}, (16, 12)),
        ({"x_fov": 90.0}, (16, 16)),
        ({"fl_y": 20.0}, (20, 20)),
        ({"fl_x": 20.0, "camera_angle_x": 0.1}, (20, 20)),
    ],
)
def test_instant_ngp_focal(written, keys, focal):
    transforms(written, [NO_LENS] * 10, **keys)
    lens = datasets.open(written).cameras.params[0].tolist()
    assert lens[:4] == pytest.approx([*focal, 16, 12])


def test_instant_ngp_extent(written):
    transforms(written, aabb_scale=1)
    extent = datasets.open(written).extent
    assert extent.bounded and extent.half_side == pytest.approx(0.5 / 0.33) and not extent.centre.any()
    transforms(written, aabb_scale=1, scale=0.5, offset=[0.5, 0.25, 0.5])
    extent = datasets.open(written).extent
    assert extent.half_side == 1 and extent.centre.tolist() == [0, 0.5, 0]
    transforms(written, aabb_scale=1, aabb=[[-1, -1, -1], [1, 3, 1]])
    extent = datasets.open(written).extent
    assert extent.half_side == 2 and extent.centre.tolist() == [0, 1, 0]
    transforms(written, aabb_scale=16, aabb=None)
    capture = datasets.open(written)
    assert not capture.extent.bounded and capture.extent.contains(capture.cameras.positions.numpy()).all()


def test_frame_order_names_and_missing_images(written):
    changes = [
        {"file_path": ".\\images\\009.png"},
        {"file_path": "./images/001"},
        {"file_path": "images/nowhere.png"},
    ]
    transforms(written, changes)
    capture = datasets.open(written)
    assert capture.names == ("images/001", *(f"images/{i:03d}.png" for i in range(3, 10)), "images/009.png")
    assert any(
        "1 frames of transforms.json name images that do not exist: images/nowhere.png" in n
        for n in capture.notes
    )
    assert capture.splits["test"].tolist() == [0, 8]


def test_dynamic_masks_mark_what_to_leave_out(written):
    mask = np.zeros((24, 32), np.uint8)
    mask[2:4, 5:9] = 255
    write_image(written / "images/dynamic_mask_003.png", mask)
    capture = datasets.open(written)
    assert np.array_equal(capture.masks[3], mask == 0) and capture.masks[0].all()


def test_depth_units(written):
    write_image(written / "d.png", np.full((24, 32), 1500, np.uint16))
    transforms(written, [{"depth_file_path": "d.png"}] * 10)
    assert datasets.open(written).z_depths[0] == pytest.approx(1.5)
    transforms(written, applied_scale=0.5)
    capture = datasets.open(written)
    assert capture.z_depths[0] == pytest.approx(0.75) and any(
        "applied_scale" in note for note in capture.notes
    )
    transforms(written, [{"depth_file_path": None, "depth_path": "d.png"}] * 10, applied_scale=None)
    assert datasets.open(written).z_depths is None
    transforms(written, integer_depth_scale=0.01)
    assert datasets.open(written).z_depths[0] == pytest.approx(15)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_colmap_lenses(tmp_path, ring, pictures, model, binary):
    cameras, images = ring(4, model, MODELS[model]), pictures(4)
    write_colmap(tmp_path, cameras, [f"{i}.png" for i in range(4)], images=images, binary=binary)
    capture = datasets.open(tmp_path)
    assert_same(capture, cameras, images)
    assert capture.cameras.models == cameras.models and capture.points.shape == (0, 3)


@pytest.mark.parametrize("binary", [True, False])
def test_colmap_layouts(tmp_path, ring, pictures, binary):
    mixed = Cameras.concatenate([ring(6), ring(10, "OPENCV", MODELS["OPENCV"])[6:]])
    points = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    colours = np.arange(120, dtype=np.uint8).reshape(40, 3)
    names = [f"sub dir/{i}.png" for i in range(10)]
    write_colmap(tmp_path, mixed, names, points, colours, images=pictures(), binary=binary)
    write_image(tmp_path / "masks/sub dir/4.png.png", np.eye(24, 32, dtype=np.uint8) * 255)
    for path in (tmp_path, tmp_path / "sparse", tmp_path / "sparse/0"):
        capture = datasets.open(path)
        assert_same(capture, mixed, pictures())
        assert np.array_equal(capture.points, points) and np.array_equal(capture.point_colours, colours)
        assert capture.names == tuple(names) and np.array_equal(capture.masks[4], np.eye(24, 32) > 0)
    assert capture.splits["test"].tolist() == [0, 8] and len(capture.splits["train"]) == 8
    (tmp_path / "images/sub dir/3.png").unlink()
    capture = datasets.open(tmp_path)
    assert len(capture) == 9 and any("1 images of the model" in note for note in capture.notes)


def test_colmap_agrees_with_pycolmap(tmp_path, ring, pictures):
    pycolmap = pytest.importorskip("pycolmap", reason="pycolmap is not installed")
    cameras = ring(5, "OPENCV", MODELS["OPENCV"])
    names = [f"{i}.png" for i in range(5)]
    points = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    write_colmap(tmp_path, cameras, names, points, images=pictures(5))
    theirs = pycolmap.Reconstruction(str(tmp_path / "sparse/0"))
    assert len(theirs.points3D) == 7 and len(theirs.cameras) == 1
    for image in theirs.images.values():
        i = names.index(image.name)
        world_to_camera = np.linalg.inv(cameras.camera_to_world[i].numpy())
        assert np.abs(image.cam_from_world().matrix() - world_to_camera[:3]).max() < 1e-9
    # What pycolmap writes (with rigs and frames beside it) reads back the same.
    for suffix, write in (("bin", theirs.write_binary), ("txt", theirs.write_text)):
        again = tmp_path / suffix
        (again / "sparse").mkdir(parents=True)
        write(str(again / "sparse"))
        (tmp_path / "images").rename(again / "images")
        assert_same(datasets.open(again), cameras, pictures(5))
        (again / "images").rename(tmp_path / "images")


def write_llff(folder, cameras: Cameras, images, near=2.0, far=9.0) -> None:
    poses = cameras.camera_to_world.numpy()
    right, down, forward, position = (poses[:, :3, i] for i in range(4))
    size = np.array([[24.0, 32.0, 30.0]]).repeat(len(poses), 0)
    matrix = np.stack([down, right, -forward, position, size], axis=2)
    bounds = np.array([[near, far]]).repeat(len(poses), 0)
    np.save(folder / "poses_bounds.npy", np.concatenate([matrix.reshape(-1, 15), bounds], axis=1))
    for i, image in enumerate(images):
        write_image(folder / f"images/image{i:03d}.png", image)


def test_llff(tmp_path, ring, pictures):
    cameras, images = ring(model="SIMPLE_PINHOLE", params=(30, 16, 12)), pictures()
    write_llff(tmp_path, cameras, images)
    for path in (tmp_path, tmp_path / "poses_bounds.npy"):
        assert_same(datasets.open(path), cameras, images)
    assert datasets.open(tmp_path).splits["test"].tolist() == [0, 8]
    (tmp_path / "images/image009.png").unlink()
    with pytest.raises(UserError, match="10 poses, but images found: 9 in images"):
        datasets.open(tmp_path)


def test_llff_reduced_images(tmp_path, ring, pictures):
    cameras = ring(model="SIMPLE_PINHOLE", params=(30, 16, 12))
    write_llff(tmp_path, cameras, pictures())
    for i, image in enumerate(pictures(10, 16, 12)):
        write_image(tmp_path / f"images_2/image{i:03d}.png", image)
    half = datasets.open(tmp_path, downscale=2)
    assert np.array_equal(half.images.uint8(5), pictures(10, 16, 12)[5])
    assert half.cameras.params[0, :3].tolist() == [15, 8, 6] and half.cameras.size(0) == (16, 12)
    assert datasets.open(tmp_path).cameras.size(0) == (32, 24)
    quarter = datasets.open(tmp_path, downscale=4)
    assert quarter.cameras.size(0) == quarter.images[0].shape[1::-1] == (8, 6)


def test_colmap_wins_over_llff_and_transforms_over_colmap(tmp_path, ring, pictures):
    cameras = ring(model="SIMPLE_PINHOLE", params=(30, 16, 12))
    write_llff(tmp_path, cameras, pictures())
    names = [f"image{i:03d}.png" for i in range(10)]
    write_colmap(tmp_path, cameras, names)
    assert datasets.open(tmp_path).format == "colmap"
    write_transforms_json(tmp_path, cameras, [f"images/{name}" for name in names])
    assert datasets.open(tmp_path).format == "transforms.json"


def test_recognised_by_content(written):
    (written / "transforms.json").rename(written / "capture_of_monday.json")
    (written / "notes.json").write_text('{"frames": 3}')
    assert len(datasets.open(written)) == 10
    (written / "second.json").write_bytes((written / "capture_of_monday.json").read_bytes())
    with pytest.raises(UserError, match="name one of them"):
        datasets.open(written)


def test_holdout(written):
    def split(holdout):
        return {k: v.tolist() for k, v in datasets.open(written, holdout=holdout).splits.items()}

    assert split(None) == {"train": [1, 2, 3, 4, 5, 6, 7, 9], "test": [0, 8]} == split(8)
    assert split(0) == {"train": list(range(10)), "test": []}
    assert split(5)["test"] == [0, 5]
    with pytest.raises(UserError, match="holdout 1"):
        split(1)
    transforms(written, train_filenames=["images/000.png"], test_filenames=["./images/001.png"])
    assert split(None) == {"train": [0], "test": [1]}
    assert split(8)["test"] == [0, 8]


def test_nothing_known(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        datasets.open(tmp_path / "absent")
    (tmp_path / "scan.las").write_bytes(b"LASF")
    with pytest.raises(UserError, match=r"no known format. Looked for: .*COLMAP.*contains 1 \.las"):
        datasets.open(tmp_path)


def test_lego(shared):
    capture = datasets.open(shared("lego400"))
    assert [len(capture.split(s)) for s in ("train", "test")] == [100, 25] and capture.background == "white"
    assert capture.cameras.params[0, 0].item() == pytest.approx(0.5 * 400 / np.tan(0.5 * 0.6911112070083618))
    image = capture.images[100]
    assert image.shape == (400, 400, 4) and image.dtype == np.float32 and 0.1 < image[..., 3].mean() < 0.9
    assert np.linalg.norm(capture.cameras.positions, axis=1) == pytest.approx(4.0311, abs=1e-3)


def test_fox(shared):
    capture = datasets.open(shared("fox"), downscale=4)
    assert len(capture) == 50 and set(capture.cameras.models) == {"OPENCV"}
    assert capture.images[0].shape == (480, 270, 3) and not capture.extent.bounded
    assert capture.cameras.params[0, 0].item() == 1375.52 / 4
    assert capture.split("test").tolist() == [0, 8, 16, 24, 32, 40, 48]
    # The extent holds every camera and what they look at, without being a cube around a far-off centre.
    assert capture.extent.contains(capture.cameras.positions.numpy()).all()
    assert capture.extent.contains(np.zeros(3)) and 3 < capture.extent.half_side < 4.5


@pytest.mark.parametrize("kind", ["photos", "video"])
def test_unposed_photos_and_videos_are_placed(tmp_path, monkeypatch, ring, pictures, kind):
    """Structure from motion and frame extraction are others' work: here only that they are asked, and last."""
    project = tmp_path / "placed"
    write_colmap(project, ring(4), [f"{i}.png" for i in range(4)], images=pictures(4))
    source = tmp_path / "holiday"
    for i, image in enumerate(pictures(4)):
        write_image(source / f"{i}.png", image)
    asked = []
    photos, video = types.ModuleType("photos"), types.ModuleType("video")
    photos.place_photos = lambda folder, workspace, **_: asked.append((folder, workspace)) or project
    video.is_video = lambda path: path.suffix == ".mp4"
    video.extract_frames = lambda path, workspace, **_: source
    for name, module in (("photos", photos), ("video", video)):
        monkeypatch.setitem(sys.modules, f"fieldstone.datasets.{name}", module)
        monkeypatch.setattr(datasets, name, module, raising=False)
    (tmp_path / "clip.mp4").write_bytes(b"film")
    (tmp_path / "notes.txt").write_bytes(b"text")
    path = source if kind == "photos" else tmp_path / "clip.mp4"
    capture = datasets.open(path, workspace=tmp_path / "work")
    assert asked == [(source, tmp_path / "work")]
    assert capture.format == "colmap" and capture.name == ("holiday" if kind == "photos" else "clip")
    with pytest.raises(UserError, match=r"notes\.txt: neither a data set file nor a video"):
        datasets.open(tmp_path / "notes.txt")
