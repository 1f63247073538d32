"""Lens models: exact inverse, agreement with COLMAP and OpenCV, gradients."""

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldstone.render.cameras import CAMERA_MODELS, COLMAP_MODEL_IDS, PARAMETER_NAMES, Cameras
from fieldstone.render.cameras.distortion import UNDISTORTION, undistort

WIDTH, HEIGHT = 640, 480
PERSPECTIVE = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")

# Half ranges of each coefficient, from calibrations of phones, action cameras and wide-angle lenses.

NARROW = {"k1": 0.15, "k2": 0.05, "p1": 0.005, "p2": 0.005, "k3": 0.01, "k4": 0.01, "k5": 0.01, "k6": 0.01}
FISHEYE = {
    "k1": 0.05,
    "k2": 0.02,
    "k3": 0.005,
    "k4": 0.001,
    "p1": 0.003,
    "p2": 0.003,
    "sx1": 0.003,
    "sy1": 0.003,
}


def one(model, params, width=WIDTH, height=HEIGHT):
    return Cameras((model,), np.array([params], float).reshape(1, -1), [[width, height]], np.eye(4)[None])


def drawn(model, unit, strength, focal_ratio):
    """A camera of `model`: `unit` are numbers in [-1, 1] that pick its coefficients."""
    ranges = NARROW if model in PERSPECTIVE else FISHEYE
    values = []
    for name, number in zip(PARAMETER_NAMES[model], unit, strict=False):
        if name in ("f", "fx", "fy"):
            values.append(WIDTH * focal_ratio * (1 + 0.02 * number))
        elif name in ("cx", "cy"):
            values.append((WIDTH if name == "cx" else HEIGHT) * (0.5 + 0.03 * number))
        elif name == "omega":
            values.append(1.0 + 0.5 * number)
        else:
            values.append(ranges[name] * strength * number)
    return one(model, values)


def edge_pixels():
    """Pixels all over the image, its corners and edges included."""
    x, y = np.meshgrid(np.linspace(0, WIDTH, 33), np.linspace(0, HEIGHT, 25))
    return torch.tensor(np.stack([x.ravel(), y.ravel()], 1))


FIRST = torch.zeros(1, dtype=torch.int64)
UNIT = st.lists(st.floats(-1, 1), min_size=12, max_size=12)

EXAMPLES = {
    "SIMPLE_PINHOLE": [500, 320, 240],
    "PINHOLE": [500, 510, 321, 238],
    "SIMPLE_RADIAL": [500, 320, 240, -0.15],
    "RADIAL": [500, 320, 240, -0.2, 0.05],
    "OPENCV": [500, 510, 321, 238, -0.2, 0.05, 0.003, -0.002],
    "OPENCV_FISHEYE": [300, 310, 321, 238, 0.02, -0.01, 0.003, -0.0005],
    "FULL_OPENCV": [500, 510, 321, 238, 0.3, 0.05, 0.003, -0.002, 0.01, 0.4, 0.1, 0.02],
    "FOV": [300, 310, 321, 238, 0.9],
    "SIMPLE_RADIAL_FISHEYE": [300, 320, 240, -0.02],
    "RADIAL_FISHEYE": [300, 320, 240, -0.02, 0.005],
    "THIN_PRISM_FISHEYE": [300, 310, 321, 238, 0.02, -0.01, 0.003, -0.002, 0.003, -0.0005, 0.004, -0.003],
    "SIMPLE_FISHEYE": [200, 320, 240],
    "FISHEYE": [200, 210, 321, 238],
    "EQUIRECTANGULAR": [],
}


def test_every_model_has_an_example():
    assert set(EXAMPLES) == set(CAMERA_MODELS)
    assert all(len(EXAMPLES[model]) == count for model, count in CAMERA_MODELS.items())


@pytest.mark.parametrize("model", CAMERA_MODELS)
@settings(max_examples=12, deadline=None)
@given(unit=UNIT, focal_ratio=st.floats(0.75, 2.0))
def test_every_pixel_of_a_realistic_lens_round_trips(model, unit, focal_ratio):
    cameras = drawn(model, unit, 1.0, focal_ratio)
    pixels = edge_pixels()
    directions = cameras.unproject(pixels, FIRST)
    assert torch.allclose(directions.norm(dim=1), torch.ones(len(pixels), dtype=torch.float64), atol=1e-12)
    back, z_depth = cameras.project(directions, FIRST)
    difference = (back - pixels).abs()
    if model == "EQUIRECTANGULAR":  # left and right edge are one meridian, a pole is a whole row
        difference[:, 0] = torch.minimum(difference[:, 0], WIDTH - difference[:, 0])
        difference = difference[(pixels[:, 1] > 0) & (pixels[:, 1] < HEIGHT)]
    assert difference.max() < 1e-6
    assert torch.equal(z_depth, directions[:, 2])


@pytest.mark.parametrize("model", CAMERA_MODELS)
@settings(max_examples=12, deadline=None)
@given(unit=UNIT, strength=st.floats(0, 4), focal_ratio=st.floats(0.3, 2.0))
def test_a_pixel_of_any_lens_round_trips_or_is_nan(model, unit, strength, focal_ratio):
    cameras = drawn(model, unit, strength, focal_ratio)
    pixels = edge_pixels()[50:-50]
    back, _ = cameras.project(cameras.unproject(pixels, FIRST), FIRST)
    difference = (back - pixels).abs()
    if model == "EQUIRECTANGULAR":
        difference[:, 0] = torch.minimum(difference[:, 0], WIDTH - difference[:, 0])
    assert difference.nan_to_num(0.0).max() < 1e-6


@pytest.mark.parametrize("model", CAMERA_MODELS)
@settings(max_examples=12, deadline=None)
@given(unit=UNIT, strength=st.floats(0, 3), seed=st.integers(0, 2**16))
def test_what_projects_can_be_unprojected(model, unit, strength, seed):
    """The other way round: a pixel that some direction maps to is not given up as NaN."""
    cameras = drawn(model, unit, strength, 0.5)
    rng = np.random.default_rng(seed)
    points = torch.tensor(rng.normal(size=(400, 3)))
    pixels, _ = cameras.project(points, FIRST)
    seen = pixels.isfinite().all(1) & (pixels.abs() < 1e4).all(1)
    directions = cameras.unproject(pixels[seen], FIRST)
    again, _ = cameras.project(directions, FIRST)
    # the very rim, where the image stops growing, is ill-conditioned: only there may NaN come back
    lost = ~again.isfinite().all(1)
    assert lost.double().mean() < 0.02
    assert (again - pixels[seen]).abs()[~lost].max() < 1e-6


@pytest.mark.parametrize("model", CAMERA_MODELS)
def test_agrees_with_colmap(model):
    pycolmap = pytest.importorskip("pycolmap")
    try:
        theirs = pycolmap.Camera(
            model=model, width=WIDTH, height=HEIGHT, params=EXAMPLES[model] or [WIDTH, HEIGHT]
        )
    except (ValueError, AttributeError):
        pytest.skip(f"this pycolmap does not know {model}")
    ours = one(model, EXAMPLES[model])
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(-0.9, 0.9, (500, 2)), np.ones((500, 1))], 1) * rng.uniform(
        0.5, 4, (500, 1)
    )
    pixels, _ = ours.project(torch.tensor(points), FIRST)
    # COLMAP replaces the FOV model by a series for small radii, good to about 1e-8 pixels
    np.testing.assert_allclose(pixels.numpy(), theirs.img_from_cam(points), atol=1e-6, rtol=0)
    plane = theirs.cam_from_img(pixels.numpy())
    np.testing.assert_allclose(plane, points[:, :2] / points[:, 2:], atol=1e-5)  # their Newton stops early
    directions = ours.unproject(pixels, FIRST).numpy()
    np.testing.assert_allclose(
        directions[:, :2] / directions[:, 2:], points[:, :2] / points[:, 2:], atol=1e-10
    )


def test_colmap_ids_and_parameter_order():
    pycolmap = pytest.importorskip("pycolmap")
    for number, model in COLMAP_MODEL_IDS.items():
        if not hasattr(pycolmap.CameraModelId, model):
            continue
        assert int(getattr(pycolmap.CameraModelId, model)) == number
        if model != "EQUIRECTANGULAR":
            theirs = pycolmap.Camera(model=model, width=WIDTH, height=HEIGHT, params=EXAMPLES[model])
            names = tuple(name.strip() for name in theirs.params_info.split(","))
            assert tuple("k1" if name == "k" else name for name in names) == PARAMETER_NAMES[model]


@pytest.mark.parametrize("model", ["OPENCV", "FULL_OPENCV"])
def test_agrees_with_opencv(model):
    fx, fy, cx, cy, *coefficients = EXAMPLES[model]
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    rng = np.random.default_rng(1)
    points = np.concatenate([rng.uniform(-0.8, 0.8, (200, 2)), np.ones((200, 1))], 1)
    theirs, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, np.array(coefficients))
    pixels, _ = one(model, EXAMPLES[model]).project(torch.tensor(points), FIRST)
    np.testing.assert_allclose(pixels.numpy(), theirs[:, 0], atol=1e-9)


def test_agrees_with_opencv_fisheye():
    fx, fy, cx, cy, *coefficients = EXAMPLES["OPENCV_FISHEYE"]
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    rng = np.random.default_rng(2)
    points = np.concatenate([rng.uniform(-2, 2, (200, 2)), np.ones((200, 1))], 1)
    theirs, _ = cv2.fisheye.projectPoints(
        points[:, None], np.zeros(3), np.zeros(3), matrix, np.array(coefficients)
    )
    pixels, _ = one("OPENCV_FISHEYE", EXAMPLES["OPENCV_FISHEYE"]).project(torch.tensor(points), FIRST)
    np.testing.assert_allclose(pixels.numpy(), theirs[:, 0], atol=1e-9)


@pytest.mark.parametrize("model", [m for m in CAMERA_MODELS if m not in PERSPECTIVE])
def test_sideways_and_backwards(model):
    """Directions beyond 90 degrees project and come back; an equidistant lens puts them at f * angle."""
    params = list(EXAMPLES[model])
    angles = torch.linspace(0.05, 2.6, 40, dtype=torch.float64)
    points = torch.stack([angles.sin(), 0.2 * angles.sin(), angles.cos()], 1)
    cameras = one(model, params)
    pixels, z_depth = cameras.project(points, FIRST)
    seen = pixels.isfinite().all(1)
    assert (z_depth[seen] < 0).any()
    found = cameras.unproject(pixels[seen], FIRST)
    expected = points[seen] / points[seen].norm(dim=1, keepdim=True)
    assert (found - expected).abs().max() < 1e-9
    if model == "SIMPLE_FISHEYE":
        true_angle = torch.atan2(points[:, :2].norm(dim=1), points[:, 2])
        radius = (pixels - torch.tensor(params[1:])).norm(dim=1)
        torch.testing.assert_close(radius, params[0] * true_angle)


def test_equirectangular_directions():
    cameras = one("EQUIRECTANGULAR", [], 400, 200)
    pixels = torch.tensor([[200.0, 100], [300, 100], [100, 100], [200, 50], [0, 100]], dtype=torch.float64)
    half = math.sqrt(0.5)
    expected = [[0, 0, 1.0], [1, 0, 0], [-1, 0, 0], [0, -half, half], [0, 0, -1]]
    torch.testing.assert_close(
        cameras.unproject(pixels, FIRST), torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=0
    )
    poles, _ = cameras.project(torch.tensor([[0.0, -2, 0], [0, 2, 0]], dtype=torch.float64), FIRST)
    assert poles[:, 1].tolist() == [0, 200]


def test_folded_distortion_is_nan_not_wrong():
    """r (1 - 0.3 r^2) turns back at r = 1 / sqrt(0.9), where its image has radius 2 / 3 of that."""
    f, fold = 300.0, 1 / math.sqrt(0.9)
    cameras = one("SIMPLE_RADIAL", [f, 320, 240, -0.3])
    radii = torch.tensor([0.5, 0.99, 1.01, 1.5, 10]) * fold
    points = torch.stack([radii, torch.zeros(5), torch.ones(5)], 1).double()
    pixels, _ = cameras.project(points, FIRST)
    assert pixels.isfinite().all(1).tolist() == [True, True, False, False, False]
    rim = f * fold * 2 / 3
    at = torch.tensor([[320 + rim * 0.999, 240], [320 + rim * 1.001, 240]], dtype=torch.float64)
    assert cameras.unproject(at, FIRST).isfinite().all(1).tolist() == [True, False]


def test_pole_of_the_rational_model():
    """r / (1 - 0.01 r^6) grows without bound towards its pole; every radius before that comes back."""
    pole = 0.01 ** (-1 / 6)
    cameras = one("FULL_OPENCV", [300, 300, 320, 240, 0, 0, 0, 0, 0, 0, 0, -0.01])
    radii = torch.linspace(0.01, 0.999, 200, dtype=torch.float64) * pole
    points = torch.stack([radii, torch.zeros(200), torch.ones(200)], 1)
    pixels, _ = cameras.project(points, FIRST)
    torch.testing.assert_close(pixels[:, 0], 320 + 300 * radii / (1 - 0.01 * radii**6))
    found = cameras.unproject(pixels, FIRST)
    torch.testing.assert_close(found[:, 0] / found[:, 2], radii, atol=1e-10, rtol=0)
    beyond, _ = cameras.project(torch.tensor([[1.001 * pole, 0, 1]], dtype=torch.float64), FIRST)
    assert beyond.isnan().all()


def test_behind_a_perspective_lens_is_nan_with_zero_gradient():
    for model in PERSPECTIVE:
        points = torch.tensor(
            [[0.1, 0.2, -1], [0.1, 0.2, 0], [0.1, 0.2, 1]], dtype=torch.float64, requires_grad=True
        )
        pixels, z_depth = one(model, EXAMPLES[model]).project(points, FIRST)
        assert pixels.isnan().all(1).tolist() == [True, True, False]
        assert z_depth.tolist() == [-1, 0, 1]
        (gradient,) = torch.autograd.grad(pixels.nan_to_num(0).sum(), points)
        assert gradient.isfinite().all() and (gradient[:2] == 0).all() and (gradient[2] != 0).any()


@pytest.mark.parametrize("model", CAMERA_MODELS)
def test_projection_gradients(model):
    points = torch.tensor([[0.3, -0.2, 1.1], [1e-7, 2e-7, 2.0], [-0.5, 0.4, 1.5]], dtype=torch.float64)
    if model not in PERSPECTIVE:
        points = torch.cat([points, torch.tensor([[1.0, 0.5, -0.2]], dtype=torch.float64)])
    points.requires_grad_()
    size = torch.tensor([[WIDTH, HEIGHT]])
    count = CAMERA_MODELS[model]
    params = torch.tensor([EXAMPLES[model]], dtype=torch.float64).reshape(1, count).requires_grad_(count > 0)

    def project(points, params):
        return Cameras((model,), params, size, torch.eye(4)[None]).project(points, FIRST)

    assert torch.autograd.gradcheck(project, (points, params), eps=1e-7, atol=1e-4, rtol=1e-4)


def test_gradient_reaches_zero_coefficients():
    params = torch.tensor([[500.0, 500, 320, 240, 0, 0, 0, 0]], dtype=torch.float64, requires_grad=True)
    cameras = Cameras(("OPENCV",), params, [[WIDTH, HEIGHT]], torch.eye(4)[None])
    pixels, _ = cameras.project(torch.tensor([[0.3, 0.2, 1.0]]), FIRST)
    pixels.sum().backward()
    assert (params.grad != 0).all()


@settings(max_examples=30, deadline=None)
@given(unit=UNIT, strength=st.floats(0, 4), seed=st.integers(0, 2**16))
def test_undistortion_back_ends_agree(unit, strength, seed):
    rng = np.random.default_rng(seed)
    cameras = drawn("THIN_PRISM_FISHEYE", unit, strength, 0.5)
    coefficients, fold = cameras.lenses.table[:, 4:15], cameras.lenses.fold
    target = torch.tensor(rng.normal(size=(300, 2)))
    reference = undistort(target, coefficients, fold, backend="reference")
    assert len(UNDISTORTION.available("cpu")) > 1
    for name in UNDISTORTION.available("cpu"):
        found = undistort(target, coefficients, fold, backend=name)
        both = reference.isfinite().all(1) & found.isfinite().all(1)
        assert (reference.isnan() == found.isnan()).double().mean() > 0.98  # the rim may fall either way
        if both.any():
            residual = (reference - found)[both].abs().max()
            assert residual < 1e-6


def test_fov_without_width_is_a_pinhole():
    points = torch.tensor([[0.3, -0.2, 1.1], [0.9, 0.8, 1.0]], dtype=torch.float64)
    flat, _ = one("FOV", [300, 310, 320, 240, 0.0]).project(points, FIRST)
    pinhole, _ = one("PINHOLE", [300, 310, 320, 240]).project(points, FIRST)
    torch.testing.assert_close(flat, pinhole, atol=1e-9, rtol=0)
