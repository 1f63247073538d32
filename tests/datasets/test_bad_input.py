"""Every mistake and every hostile file ends in one clear line."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fieldstone import datasets
from fieldstone.core.errors import UserError
from fieldstone.datasets.writers import write_blender, write_colmap, write_image, write_transforms_json


def refusal(path, **options) -> str:
    with pytest.raises(UserError) as error:
        datasets.open(path, **options)
    message = str(error.value)
    assert "\n" not in message and len(message) < 1500
    return message


@pytest.fixture
def written(tmp_path, ring, pictures):
    write_transforms_json(tmp_path, ring(4), [f"{i}.png" for i in range(4)], images=pictures(4))
    return tmp_path


def change(folder, number=None, **keys) -> None:
    value = json.loads((folder / "transforms.json").read_text())
    (value if number is None else value["frames"][number]).update(keys)
    (folder / "transforms.json").write_text(json.dumps(value))


POSE = np.eye(4).tolist()


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (
            {"transform_matrix": [[float("nan")] * 4] * 4},
            "pose of frame 2.png has a number that is not finite",
        ),
        ({"transform_matrix": [[2, 0, 0, 0], *POSE[1:]]}, "frame 2.png is no rigid motion"),
        ({"transform_matrix": [[-1, 0, 0, 0], *POSE[1:]]}, "determinant -1"),
        ({"transform_matrix": [[1, 2], [3, 4]]}, "has shape (2, 2)"),
        ({"transform_matrix": "identity"}, "no matrix of numbers"),
        ({"file_path": 7}, "frame 2 has no usable file_path"),
        ({"fl_x": "wide"}, "fl_x is 'wide'; it must be a number"),
        ({"fl_x": float("inf")}, "fl_x is inf"),
        ({"fl_x": -3}, "camera 2: PINHOLE focal length fx is -3"),
        ({"w": 0}, "image size 0 x 24"),
        ({"w": 1e99}, "w and h must be 1 to"),
        ({"k4": 0.1}, "k4 = 0.1 on a perspective lens"),
        (
            {"camera_model": "FISHEYE624"},
            "camera_model 'FISHEYE624' is not supported; supported: EQUIRECTANGULAR",
        ),
        ({"camera_model": ["x"]}, "is not supported"),
        ({"ftheta_p0": 0.1}, "f-theta lenses are not supported"),
        ({"mask_path": "nowhere.png"}, "mask_path 'nowhere.png' does not exist"),
        ({"time": 2.0}, "frame 0.png has time None"),
    ],
)
def test_bad_frames(written, frame, says):
    change(written, 2, **frame)
    assert says in refusal(written)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"aabb_scale": "big"}, "aabb_scale is 'big'"),
        ({"aabb_scale": 1, "scale": 0}, "scale is 0"),
        ({"aabb_scale": 1, "offset": [1, 2]}, "offset [1, 2] must be one or three numbers"),
        ({"aabb_scale": 1, "aabb": [1, 2]}, "aabb must be two corners"),
        ({"train_filenames": ["5.png"]}, "train_filenames names 5.png, which no frame has"),
        ({"test_filenames": ["1.png"]}, "without train_filenames"),
        ({"frames": []}, "no known format"),
        ({"n_frames": 1}, "1 usable image of format transforms.json"),
    ],
)
def test_bad_files(written, keys, says):
    change(written, **keys)
    for image in written.glob("*.png") if "frames" in keys else []:
        image.unlink()
    assert says in refusal(written)


def test_not_json(written):
    (written / "transforms.json").write_text('{"frames": [')
    assert "not readable as JSON" in refusal(written)
    (written / "transforms.json").write_text("[" * 100_000)
    assert "not readable as JSON" in refusal(written)


def test_images_missing_or_broken(written):
    whole = (written / "1.png").read_bytes()
    (written / "1.png").write_bytes(b"no image")
    assert "1.png: not a readable image" in refusal(written)
    (written / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"1\.png: the image is damaged or cut short"):
        datasets.open(written).images[1]
    for number in (1, 2, 3):
        (written / f"{number}.png").unlink()
    assert "1 usable image of format transforms.json; at least 2" in refusal(written)
    (written / "0.png").unlink()
    assert "none of the 4 images it names exists" in refusal(written)


def test_fully_transparent(tmp_path, ring):
    images = [np.zeros((24, 32, 4), np.uint8) for _ in range(4)]
    write_blender(tmp_path, images, ring(4, params=(30, 30, 16, 12)), {"train": range(4)})
    assert "fully transparent" in refusal(tmp_path)


def test_mask_of_another_size(written):
    write_image(written / "mask.png", np.zeros((24, 31), np.uint8))
    change(written, 1, mask_path="mask.png")
    assert "mask.png: the mask is 31 x 24 pixels, its image 32 x 24" in refusal(written)


def test_bad_points_and_depths(written):
    (written / "points.ply").write_bytes(b"ply\nformat binary_little_endian 1.0\nelement vertex 99999999\n")
    change(written, ply_file_path="points.ply")
    assert "points.ply: not readable as .ply" in refusal(written)
    change(written, ply_file_path=None)
    np.save(written / "d.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    change(written, 0, depth_file_path="d.npy")
    with pytest.raises(UserError, match=r"d\.npy: not a readable depth image"):
        datasets.open(written).z_depths[0]


def test_nothing_to_train_on(written):
    change(written, train_filenames=["0.png"], test_filenames=["1.png"])
    (written / "0.png").unlink()
    assert "no frame is left to train on" in refusal(written)


def llff(folder, table) -> str:
    np.save(folder / "poses_bounds.npy", table)
    return refusal(folder)


def test_bad_llff(tmp_path):
    for i in range(3):
        write_image(tmp_path / f"images/{i}.png", np.zeros((24, 32, 3), np.uint8))
    row = np.concatenate(
        [np.array([[0, 1, 0, 0, 24], [1, 0, 0, 0, 32], [0, 0, -1, 0, 30]]).ravel(), [1.0, 9.0]]
    )
    table = np.stack([row] * 3)
    assert "LLFF has one row of 17 numbers" in llff(tmp_path, table[:, :15])
    assert "LLFF has one row of 17 numbers" in llff(tmp_path, table.astype("U8"))
    assert "2 poses, but images found: 3 in images" in llff(tmp_path, table[:2])
    bad = table.copy()
    bad[1, 3] = np.nan
    assert "pose of frame images/1.png" in llff(tmp_path, bad)
    bad = table.copy()
    bad[1, 4] = -5
    assert "h, w, f" in llff(tmp_path, bad)
    bad = table.copy()
    bad[1, 15:] = (3, 2)
    assert "0 < near < far" in llff(tmp_path, bad)
    np.save(tmp_path / "poses_bounds.npy", np.array([object()] * 3), allow_pickle=True)
    assert "not readable as a table of numbers" in refusal(tmp_path)
    whole = np.lib.format.magic(1, 0) + struct.pack("<H", 70)
    claim = b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999, 17)}"
    (tmp_path / "poses_bounds.npy").write_bytes(whole + claim.ljust(69) + b"\n" + table.tobytes())
    assert "not readable as a table of numbers" in refusal(tmp_path)


@pytest.fixture
def colmap(tmp_path, ring, pictures):
    points = np.zeros((5, 3))
    write_colmap(tmp_path, ring(4, "RADIAL", (30, 16, 12, 0.1, 0)), [f"{i}.png" for i in range(4)], points)
    for i, image in enumerate(pictures(4)):
        write_image(tmp_path / f"images/{i}.png", image)
    assert len(datasets.open(tmp_path)) == 4
    return tmp_path


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
def test_colmap_cut_or_boasting(colmap, name):
    path = colmap / f"sparse/0/{name}.bin"
    whole = path.read_bytes()
    for kept in (3, 8, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        assert f"{name}.bin: damaged COLMAP file" in refusal(colmap)
    path.write_bytes(struct.pack("<Q", 1 << 60) + whole[8:])
    assert f"claims {1 << 60} records" in refusal(colmap)


def test_colmap_unknown_models(colmap):
    path = colmap / "sparse/0/cameras.bin"
    data = bytearray(path.read_bytes())
    data[12:16] = struct.pack("<i", 99)
    path.write_bytes(data)
    assert "camera 1 has unknown model id 99; known: 0 SIMPLE_PINHOLE" in refusal(colmap)


def test_colmap_text_mistakes(tmp_path, ring, pictures):
    cameras, names = ring(4), [f"{i}.png" for i in range(4)]
    write_colmap(tmp_path, cameras, names, np.zeros((5, 3)), images=pictures(4), binary=False)
    model = tmp_path / "sparse/0"
    for name, before, after, says in (
        (
            "cameras.txt",
            "PINHOLE",
            "FISHBOWL",
            "camera model FISHBOWL is not supported; supported: SIMPLE_PINHOLE",
        ),
        ("cameras.txt", " 12.25", "", "PINHOLE takes 4 parameters, found 3"),
        ("images.txt", " 1 1.png", " 7 1.png", "image 1.png uses camera 7"),
        ("images.txt", " 1 1.png", "", "images.txt, line 4: malformed"),
        ("points3D.txt", " 128 128 128", " 128 128 999", "points3D.txt, line 2: malformed"),
    ):
        whole = (model / name).read_text()
        assert before in whole
        (model / name).write_text(whole.replace(before, after, 1))
        assert says in refusal(tmp_path)
        (model / name).write_text(whole)
    zero = "\n".join(f"{i} 0 0 0 0 0 0 0 1 {name}\n" for i, name in enumerate(names))
    (model / "images.txt").write_text(zero)
    assert "pose of frame 0.png has a number that is not finite" in refusal(tmp_path)


def test_colmap_without_its_photos(colmap):
    (colmap / "images").rename(colmap / "hidden")
    assert "none of the 4 images of the model is there (first 0.png)" in refusal(colmap)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["cameras", "images", "points3D"]),
    at=st.integers(0, 200),
    value=st.binary(min_size=1, max_size=8),
)
def test_colmap_noise_never_crashes(colmap, name, at, value):
    path = colmap / f"sparse/0/{name}.bin"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:at] + value + whole[at + len(value) :])
        datasets.open(colmap)
    except UserError as error:
        assert "\n" not in str(error)
    finally:
        path.write_bytes(whole)
