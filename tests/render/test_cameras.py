"""Cameras as a batch: selection, rays, sizes, and what is refused."""

import json

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fieldstone.core.errors import UserError
from fieldstone.core.similarity import Similarity
from fieldstone.render.cameras import CAMERA_MODELS, Cameras, pixel_centres
from fieldstone.render.cameras.direction_tables import DirectionTables

LENSES = {
    "PINHOLE": [50, 52, 32, 24],
    "OPENCV": [50, 52, 33, 23, -0.1, 0.02, 0.003, -0.002],
    "SIMPLE_RADIAL_FISHEYE": [30, 32, 24, -0.02],
    "FOV": [40, 42, 32, 24, 0.9],
    "SIMPLE_PINHOLE": [50, 32, 24],
    "EQUIRECTANGULAR": [],
}


def poses(n, seed=0):
    rng = np.random.default_rng(seed)
    result = np.tile(np.eye(4), (n, 1, 1))
    result[:, :3, :3] = Rotation.random(n, rng=rng).as_matrix()
    result[:, :3, 3] = rng.normal(size=(n, 3))
    return result


def mixed():
    params = np.zeros((len(LENSES), 12))
    for i, values in enumerate(LENSES.values()):
        params[i, : len(values)] = values
    return Cameras(tuple(LENSES), params, [[64, 48]] * len(LENSES), poses(len(LENSES)))


def random_pixels(count, cameras, seed=1):
    rng = np.random.default_rng(seed)
    index = torch.tensor(rng.integers(0, len(cameras), count))
    return index, torch.tensor(rng.uniform(0, 1, (count, 2))) * cameras.sizes[index]


def test_model_table():
    counts = {"SIMPLE_PINHOLE": 3, "PINHOLE": 4, "SIMPLE_RADIAL": 4, "RADIAL": 5, "OPENCV": 8, "FOV": 5}
    counts |= {"OPENCV_FISHEYE": 8, "FULL_OPENCV": 12, "SIMPLE_RADIAL_FISHEYE": 4, "RADIAL_FISHEYE": 5}
    counts |= {"THIN_PRISM_FISHEYE": 12, "EQUIRECTANGULAR": 0}
    assert counts.items() <= CAMERA_MODELS.items()


def test_mixed_models_give_what_each_gives_alone():
    cameras = mixed()
    index, pixels = random_pixels(300, cameras)
    together = cameras.unproject(pixels, index)
    points = torch.tensor(np.random.default_rng(3).normal(size=(300, 3)))
    projected, z_depth = cameras.project(points, index)
    for i in range(len(cameras)):
        rows = index == i
        assert rows.any()
        zero = torch.zeros(int(rows.sum()), dtype=torch.int64)
        assert torch.equal(together[rows], cameras[i].unproject(pixels[rows], zero))
        alone, alone_depth = cameras[i].project(points[rows], zero)
        torch.testing.assert_close(projected[rows], alone, equal_nan=True)
        torch.testing.assert_close(z_depth[rows], alone_depth)


def test_rays_pass_through_their_pixels():
    cameras = mixed()
    index, pixels = random_pixels(300, cameras)
    rays = cameras.rays(index, pixels)
    assert {part.dtype for part in rays} == {torch.float32}
    assert (rays.directions.norm(dim=1) - 1).abs().max() < 1e-6
    distance = torch.linspace(0.5, 9, 300)[:, None]
    points = rays.origins.double() + distance * rays.directions.double()
    back, z_depth = cameras.project(points, index)
    assert (back - pixels).abs().max() < 1e-4
    torch.testing.assert_close(z_depth.float(), distance[:, 0] * rays.z_per_distance, atol=1e-5, rtol=1e-5)


def test_pinhole_rays_equal_the_textbook():
    cameras = Cameras.pinhole(poses(3), [[50, 51], [60, 61], [70, 71]], 64, 48, [30, 20])
    index, pixels = random_pixels(100, cameras)
    f, pose = cameras.params[index, :2], cameras.camera_to_world[index]
    local = torch.cat([(pixels - torch.tensor([30, 20])) / f, torch.ones(100, 1)], 1)
    world = (pose[:, :3, :3] @ local[:, :, None])[:, :, 0]
    rays = cameras.rays(index, pixels.float())
    length = local.norm(dim=1)
    torch.testing.assert_close(rays.directions, (world / length[:, None]).float(), atol=2e-6, rtol=0)
    torch.testing.assert_close(rays.z_per_distance, (1 / length).float(), atol=1e-6, rtol=0)
    assert torch.equal(rays.origins, pose[:, :3, 3].float())


@pytest.mark.parametrize("i", range(len(LENSES)))
def test_image_rays_are_row_major_pixel_centres(i):
    cameras = mixed()
    rays = cameras.image_rays(i)
    assert len(rays.directions) == 64 * 48
    picked = torch.tensor([0, 1, 64, 64 * 30 + 17])
    pixels = torch.tensor([[0.5, 0.5], [1.5, 0.5], [0.5, 1.5], [17.5, 30.5]])
    expected = cameras.rays(torch.full((4,), i), pixels)
    for part, other in zip(rays, expected, strict=True):
        torch.testing.assert_close(part[picked], other, atol=1e-6, rtol=0)
    table = cameras.direction_table(i)
    assert table.shape == (48, 64, 3) and table.dtype == torch.float32
    gathered = cameras.rays_from_directions(torch.full((4,), i), table.reshape(-1, 3)[picked])
    torch.testing.assert_close(gathered.directions, expected.directions, atol=1e-6, rtol=0)
    assert cameras.valid_pixels(i).all()


def test_direction_tables_are_shared_and_bounded():
    cameras = Cameras.concatenate([mixed(), mixed().with_poses(poses(len(LENSES), seed=9))])
    count = len(LENSES)
    assert cameras.direction_table(1).data_ptr() == cameras.direction_table(1 + count).data_ptr()
    assert cameras.lens_index().tolist() == [*range(count), *range(count)]
    small = DirectionTables(capacity_bytes=2 * 64 * 48 * 12)
    kept = [small.get((i,), cameras.lenses, i, 64, 48) for i in range(3)]
    assert small.get((2,), cameras.lenses, 2, 64, 48) is kept[2]
    assert small.get((0,), cameras.lenses, 0, 64, 48) is not kept[0]


def test_pixels_outside_a_fisheye_are_nan_and_flagged():
    cameras = Cameras(("SIMPLE_FISHEYE",), [[10.0, 50, 50]], [[100, 100]], np.eye(4)[None])
    valid = cameras.valid_pixels(0)
    radius = (pixel_centres(100, 100) - 50).norm(dim=1).reshape(100, 100)
    assert torch.equal(valid, radius < 10 * np.pi)
    assert cameras.image_rays(0).directions.reshape(100, 100, 3)[~valid].isnan().all()


def test_closed_form():
    cameras = mixed()
    assert [cameras[i].closed_form for i in range(len(cameras))] == [True, False, False, True, True, True]
    plain = Cameras(("OPENCV",), [[50.0, 50, 32, 24, 0, 0, 0, 0]], [[64, 48]], np.eye(4)[None])
    assert plain.closed_form


def test_dtypes_follow_the_input():
    cameras = mixed()
    index = torch.tensor([0, 1])
    for dtype in (torch.float32, torch.float64):
        pixels, z_depth = cameras.project(torch.ones(2, 3, dtype=dtype), index)
        assert pixels.dtype == z_depth.dtype == dtype
        assert cameras.unproject(torch.ones(2, 2, dtype=dtype), index).dtype == dtype
    assert cameras.params.dtype == cameras.camera_to_world.dtype == torch.float64
    assert cameras.sizes.dtype == torch.int64


def test_selection():
    cameras = mixed()
    assert len(cameras[2]) == 1 and cameras[2].models == ("SIMPLE_RADIAL_FISHEYE",)
    assert cameras[-1].models == ("EQUIRECTANGULAR",)
    for key in (slice(1, 3), [1, 2], np.array([1, 2]), torch.tensor([1, 2]), range(1, 3)):
        assert cameras[key].models == ("OPENCV", "SIMPLE_RADIAL_FISHEYE")
        assert torch.equal(cameras[key].camera_to_world, cameras.camera_to_world[1:3])
    assert cameras[torch.arange(6) == 3].models == ("FOV",)
    assert len(cameras[[]]) == 0
    assert len(list(cameras)) == 6
    with pytest.raises(IndexError):
        cameras[6]


def test_concatenate():
    cameras = mixed()
    again = Cameras.concatenate([cameras[:2], cameras[2:]])
    assert again.models == cameras.models
    assert torch.equal(again.params, cameras.params) and torch.equal(again.sizes, cameras.sizes)
    assert len(Cameras.concatenate([])) == 0


def test_json_round_trip_is_exact():
    cameras = mixed()
    again = Cameras.from_json(json.loads(json.dumps(cameras.to_json())))
    assert again.models == cameras.models
    for name in ("params", "sizes", "camera_to_world"):
        assert torch.equal(getattr(again, name), getattr(cameras, name))
    assert len(Cameras.from_json([])) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "WIDE"}, "unknown camera model"),
        ({"params": [1.0]}, "takes 4 parameters, found 1"),
        ({"params": None}, "not a camera record"),
        ({"camera_to_world": [[1.0]]}, "must be \\(4, 4\\)"),
        ({"width": 10**400}, "camera 0: the image has a side longer"),
        ({"height": -(10**400)}, "camera 0"),
    ],
)
def test_from_json_refuses(change, message):
    record = mixed()[0].to_json()[0] | change
    with pytest.raises(UserError, match=message):
        Cameras.from_json([record])


def test_from_json_refuses_other_things():
    with pytest.raises(UserError, match="list of cameras"):
        Cameras.from_json({})
    with pytest.raises(UserError, match="not a camera record"):
        Cameras.from_json([3])


@pytest.mark.parametrize("model", CAMERA_MODELS)
def test_resized_cameras_see_the_same(model):
    """A pixel of the resized image looks where the same spot of the original does, stretched axes included."""
    values = [300, 310, 320, 240] if "fx" in _order(model) else [300, 320, 240] if _order(model) else []
    values += [0.05, 0.01, 0.004, 0.003, 0.002, 0.001, 0.002, 0.001][: CAMERA_MODELS[model] - len(values)]
    cameras = Cameras((model,), np.array(values, float).reshape(1, -1), [[640, 480]], np.eye(4)[None])
    pixels = torch.tensor(np.random.default_rng(0).uniform(0, 1, (50, 2)) * [640, 480])
    zero = torch.zeros(50, dtype=torch.int64)
    expected = cameras.unproject(pixels, zero)
    for width, height in ((320, 240), (213, 333)):
        small = cameras.resized(width, height)
        assert small.size(0) == (width, height)
        scale = torch.tensor([width / 640, height / 480], dtype=torch.float64)
        torch.testing.assert_close(small.unproject(pixels * scale, zero), expected, atol=1e-10, rtol=0)


def _order(model):
    from fieldstone.render.cameras import PARAMETER_NAMES

    return PARAMETER_NAMES[model]


def test_downscaled_rounds_sizes():
    cameras = Cameras.pinhole(np.eye(4), 4000.0, 4946, 3286)
    assert cameras.downscaled(2).size(0) == (2473, 1643)
    assert cameras.downscaled(4).size(0) == (1237, 822)
    assert cameras.downscaled(1e9).size(0) == (1, 1)
    per_camera = mixed().downscaled(2)
    assert per_camera.sizes.tolist() == [[32, 24]] * len(LENSES)
    with pytest.raises(UserError, match="positive factor"):
        cameras.downscaled(0)


def test_transformed_moves_cameras_with_the_world():
    cameras = mixed()
    similarity = Similarity(2.5, Rotation.from_euler("xyz", [0.3, -1, 2]).as_matrix(), np.array([1.0, -2, 3]))
    moved = cameras.transformed(similarity)
    points = torch.tensor(np.random.default_rng(3).normal(size=(60, 3)))
    index = torch.arange(60) % len(cameras)
    before, before_depth = cameras.project(points, index)
    after, after_depth = moved.project(torch.tensor(similarity.apply(points.numpy())), index)
    torch.testing.assert_close(after, before, atol=1e-8, rtol=0, equal_nan=True)
    torch.testing.assert_close(after_depth, 2.5 * before_depth)


def test_gradient_reaches_poses():
    pose = torch.tensor(poses(1), requires_grad=True)
    cameras = Cameras.pinhole(pose, 50.0, 64, 48)
    _, z_depth = cameras.project(torch.tensor([[1.0, 2, 3]]), torch.tensor([0]))
    z_depth.sum().backward()
    assert torch.allclose(pose.grad[0, :3, 3], -pose.detach()[0, :3, 2], atol=1e-6)


def test_rotation_is_snapped_from_rounded_decimals():
    exact = poses(4)
    cameras = Cameras.pinhole(exact.round(4), 50.0, 64, 48)
    rotation = cameras.camera_to_world[:, :3, :3]
    assert (rotation.mT @ rotation - torch.eye(3)).abs().max() < 1e-12
    assert (cameras.camera_to_world - torch.tensor(exact)).abs().max() < 2e-4


def _broken(name, value):
    fields = {
        "models": ("PINHOLE",) * 3,
        "params": np.tile([50.0, 50, 32, 24], (3, 1)),
        "sizes": np.tile([64, 48], (3, 1)),
        "camera_to_world": poses(3),
    }
    return Cameras(**(fields | {name: value}))


def _pose_with(i, row, column, value):
    result = poses(3)
    result[i, row, column] = value
    return result


def _with(array, i, j, value):
    array = np.array(array)
    array[i, j] = value
    return array


LENS, SIZE = np.tile([50.0, 50, 32, 24], (3, 1)), np.tile([64, 48], (3, 1))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "camera_to_world",
            _pose_with(2, 0, 3, np.nan),
            "camera 2: the pose has a number that is not finite",
        ),
        (
            "camera_to_world",
            poses(3) * np.array([[-1], [1], [1], [1]]),
            "camera 0: .*mirrors .determinant -1",
        ),
        ("camera_to_world", poses(3) @ np.diag([2, 2, 2, 1]), "camera 0: .*not a rotation .determinant 8"),
        ("camera_to_world", _pose_with(1, 3, 0, 0.5), "camera 1: the last row"),
        ("camera_to_world", poses(2), "poses of shape"),
        (
            "models",
            ("PINHOLE", "PINHOLE", "pinhole"),
            "camera 2: unknown .*known models: SIMPLE_PINHOLE, PINHOLE",
        ),
        ("sizes", _with(SIZE, 1, 0, 0), "camera 1: image size 0 x 48"),
        ("sizes", _with(SIZE, 0, 1, -4), "camera 0: image size 64 x -4"),
        ("sizes", SIZE[:2], "sizes of shape"),
        ("params", _with(LENS, 2, 1, 0), "camera 2: PINHOLE focal length fy is 0"),
        ("params", _with(LENS, 1, 0, -5), "camera 1: PINHOLE focal length fx is -5"),
        ("params", _with(LENS, 0, 2, np.inf), "camera 0: PINHOLE parameter cx is inf"),
        ("params", LENS[:1], "parameters of shape"),
        ("params", np.ones((3, 5)), "PINHOLE has 4 parameters, but more are set"),
    ],
)
def test_refuses(name, value, message):
    with pytest.raises(UserError, match=message):
        _broken(name, value)


def test_refuses_impossible_fov():
    with pytest.raises(UserError, match=r"omega is 3\.2"):
        Cameras(("FOV",), [[50.0, 50, 32, 24, 3.2]], [[64, 48]], np.eye(4)[None])
