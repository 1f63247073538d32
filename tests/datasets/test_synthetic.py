"""The synthetic scene: pictures, depths and normals against its implicit function; the bundled capture."""

import json
import math
import time

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from fieldstone import datasets
from fieldstone.core.errors import UserError
from fieldstone.core.similarity import Similarity
from fieldstone.datasets.synthetic import SyntheticScene, bundled_capture, bundled_folder, user_cache_folder
from fieldstone.datasets.synthetic.bundled import write_blender_capture
from fieldstone.datasets.synthetic.materials import Material, linear_to_srgb, srgb_to_linear
from fieldstone.datasets.synthetic.shapes import (
    Body,
    bowl,
    capsule,
    round_box,
    round_cone,
    round_cylinder,
    sphere,
    torus,
)
from fieldstone.render.cameras import Cameras

PLAIN = Material("plain", ("#c0a080",))
SMALL = {"size": 24, "train": 3, "test": 2}


@pytest.fixture(scope="module")
def scene():
    return SyntheticScene()


@pytest.fixture(scope="module")
def view(scene):
    return scene.render(scene.cameras("train", size=100), 20)


def one_shape(shape, **place):
    return SyntheticScene((Body((shape,), PLAIN, **place),), Similarity.identity())


def world_points(cameras, index, z_depth):
    rays = cameras.image_rays(index)
    distance = torch.from_numpy(z_depth.reshape(-1)).double() / rays.z_per_distance.double()
    return (rays.origins.double() + distance[:, None] * rays.directions.double()).numpy()


SHAPES = {
    "sphere": sphere(0.5),
    "round box": round_box((0.4, 0.3, 0.2), 0.06),
    "torus": torus(0.4, 0.1),
    "capsule": capsule(0.4, 0.08),
    "round cylinder": round_cylinder(0.4, 0.25, 0.05),
    "round cone": round_cone(0.3, 0.1, 0.4),
    "bowl": bowl(0.4, 0.1, 0.06),
}


@pytest.mark.parametrize("name", SHAPES)
def test_single_shapes_are_exact_distances(name):
    """From outside, the nearest of many surface points is as far as the function says."""
    shape = one_shape(SHAPES[name], rotation=(0.3, -0.5, 0.8), centre=(0.05, 0.1, -0.1))
    surface, _ = shape.surface_points(20_000, np.random.default_rng(0))
    points = np.random.default_rng(1).uniform(-1, 1, (300, 3))
    distance = shape.signed_distance(points)
    nearest = cKDTree(surface).query(points)[0]
    outside = distance > 0
    assert outside.sum() > 100
    assert (nearest[outside] >= distance[outside] - 1e-6).all()
    assert np.abs(nearest - np.abs(distance))[outside].max() < 0.01


def test_no_distance_is_too_large_for_sphere_tracing(scene):
    generator = np.random.default_rng(0)
    a = scene.centre + generator.uniform(-1, 1, (20_000, 3))
    b = a + generator.normal(size=a.shape) * generator.choice([1e-3, 0.03, 0.3], (len(a), 1))
    change = np.abs(scene.signed_distance(a) - scene.signed_distance(b))
    assert (change <= np.linalg.norm(a - b, axis=1) * (1 + 1e-9) + 1e-12).all()


def test_the_scene_lies_within_its_cube(scene):
    points, _ = scene.surface_points(5000, np.random.default_rng(0))
    assert np.abs(points - scene.centre).max() < scene.half_side
    assert np.abs(points - scene.centre).max() > 0.7 * scene.half_side
    assert np.linalg.norm(scene.centre) > 0.3  # so that a forgotten frame shows


def test_a_ball_has_the_depths_and_normals_of_a_ball():
    """Camera in the middle of the picture plane, ball of radius 0.5 at 2 in front: all in closed form."""
    ball = one_shape(sphere(0.5))
    pose = np.eye(4)
    pose[2, 3] = -2.0
    cameras = Cameras.pinhole(pose, 60.0, 64, 48)
    view = ball.render(cameras, 0)
    y, x = np.mgrid[:48, :64] + 0.5
    across = np.hypot(x - 32, y - 24) / 60.0
    cosine = 1 / np.sqrt(1 + across**2)
    under_root = 0.25 - 4 * (1 - cosine**2)
    hit = under_root > 0
    distance = 2 * cosine - np.sqrt(np.maximum(under_root, 0))
    assert ((view["z_depth"] > 0) == hit).all()
    assert np.abs(view["z_depth"] - distance * cosine)[hit].max() < 5e-5
    points = np.stack([(x - 32) / 60, (y - 24) / 60, np.ones_like(x)], -1) * view["z_depth"][..., None]
    normals = (points - [0, 0, 2]) / 0.5
    assert np.abs(view["normals"] - normals)[hit].max() < 1e-4
    assert (view["normals"][~hit] == 0).all() and (view["z_depth"][~hit] == 0).all()
    inside = across < 0.24  # well within the outline, whose tangent is 0.258
    assert (view["alpha"][inside] == 1).all() and (view["alpha"][across > 0.28] == 0).all()
    area = view["alpha"].sum() / (math.pi * (60 * math.tan(math.asin(0.25))) ** 2)
    assert area == pytest.approx(1, abs=0.01)


def test_depth_reaches_the_surface(scene, view):
    cameras = scene.cameras("train", size=100)
    points = world_points(cameras, 20, view["z_depth"])
    hit = view["z_depth"].reshape(-1) > 0
    assert 0.1 < hit.mean() < 0.8
    assert np.abs(scene.signed_distance(points[hit])).max() < 1e-4
    # Nothing is in the way: halfway points between camera and surface are outside.
    eye = cameras.positions[20].numpy()
    for share in (0.5, 0.9, 0.99):
        assert (scene.signed_distance(eye + share * (points[hit] - eye)) > 0).all()


def test_normals_are_the_slope_of_the_distance(scene, view):
    cameras = scene.cameras("train", size=100)
    hit = view["z_depth"].reshape(-1) > 0
    points = world_points(cameras, 20, view["z_depth"])[hit]
    normals = view["normals"].reshape(-1, 3)[hit]
    assert np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    step = 1e-5
    slope = np.stack(
        [scene.signed_distance(points + d) - scene.signed_distance(points - d) for d in step * np.eye(3)], 1
    )
    slope /= np.linalg.norm(slope, axis=1, keepdims=True)
    close = (slope * normals).sum(1) > 0.9999
    assert close.mean() > 0.99  # the rest lies on the creases where two bodies touch
    directions = cameras.image_rays(20).directions.numpy()[hit]
    assert ((normals * directions).sum(1) < 1e-3).all()


def test_alpha_is_the_coverage_and_colour_is_not_premultiplied(scene, view):
    alpha, hit = view["alpha"], view["z_depth"] > 0
    assert set(np.unique(alpha)) == {0, 0.25, 0.5, 0.75, 1}
    assert (hit[alpha == 1]).all() and not hit[alpha == 0].any()
    assert (view["colour"][alpha == 0] == 0).all()
    edge, inner = (alpha > 0) & (alpha < 1), alpha == 1
    assert edge.sum() > 50
    assert abs(view["colour"][edge].mean() - view["colour"][inner].mean()) < 0.2


def test_colour_of_points_is_the_colour_of_the_picture(scene):
    """With one sample a pixel, the picture shows exactly the colour function at the depth it reports."""
    cameras = scene.cameras("test", size=60)
    view = scene.render(cameras, 3, samples=1)
    hit = view["z_depth"].reshape(-1) > 0
    points = world_points(cameras, 3, view["z_depth"])[hit]
    normals = view["normals"].reshape(-1, 3)[hit]
    colour = scene.colour(points, normals, cameras.image_rays(3).directions.numpy()[hit])
    assert np.quantile(np.abs(colour - view["colour"].reshape(-1, 3)[hit]), 0.995) < 2e-3
    assert colour.min() >= 0 and colour.max() <= 1 and colour.std() > 0.1


def test_the_highlight_depends_on_the_view_and_nothing_else_does():
    shiny = SyntheticScene((Body((sphere(0.5),), Material("plain", ("#336699",), gloss=0.5)),))
    dull = SyntheticScene((Body((sphere(0.5),), Material("plain", ("#336699",), gloss=0.0)),))
    points, normals = shiny.surface_points(3000, np.random.default_rng(0))
    one, other = np.array([[0, 0, -1.0]]).repeat(3000, 0), np.array([[-0.6, 0.8, 0.0]]).repeat(3000, 0)
    assert np.abs(shiny.colour(points, normals, one) - shiny.colour(points, normals, other)).max() > 0.05
    assert np.array_equal(dull.colour(points, normals, one), dull.colour(points, normals, other))


def test_supersampling_agrees_with_the_rays_it_is_made_of(scene):
    """The cone that serves a pixel's rays together changes nothing: 2 x 2 at size n is 1 x 1 at size 2n."""
    coarse = scene.render(scene.cameras("train", size=60), 40, geometry=False)
    fine = scene.render(scene.cameras("train", size=120), 40, samples=1, geometry=False)
    blocks = fine["alpha"].reshape(60, 2, 60, 2)
    # Rays that skim a surface within 2e-5 may count as hits one way and not the other.
    assert (coarse["alpha"] != blocks.mean((1, 3))).sum() <= 3
    light = srgb_to_linear(fine["colour"]).reshape(60, 2, 60, 2, 3).sum((1, 3))
    expected = linear_to_srgb(light / np.maximum(blocks.sum((1, 3)), 1)[..., None])
    difference = np.abs(coarse["colour"] - expected)[coarse["alpha"] > 0]
    assert np.quantile(difference, 0.99) < 0.02


def test_other_lenses_see_the_same_surface(scene):
    pose = scene.cameras("test")[4].camera_to_world
    params = torch.tensor([[80.0, 80.0, 50.0, 50.0, 0.1, -0.02, 0.003, 0.0]])
    fisheye = Cameras(("OPENCV_FISHEYE",), params, torch.tensor([[100, 100]]), pose)
    view = scene.render(fisheye, 0)
    hit = view["z_depth"].reshape(-1) > 0
    points = world_points(fisheye, 0, view["z_depth"])
    assert hit.mean() > 0.05 and np.abs(scene.signed_distance(points[hit])).max() < 1e-4


def test_surface_points_are_uniform_by_area():
    """On a box of known faces, and on a thin rod beside a ball, each gets its share of the area."""
    rod = SyntheticScene(
        (
            Body((sphere(0.4),), PLAIN, centre=(-0.4, 0, 0)),
            Body((round_cylinder(0.02, 0.8, 0.0),), PLAIN, centre=(0.5, 0, 0)),
        ),
        Similarity(3.0, np.eye(3), np.array([1.0, 2.0, 3.0])),
    )
    points, normals = rod.surface_points(20_000, np.random.default_rng(0))
    assert points.shape == normals.shape == (20_000, 3)
    assert np.abs(rod.signed_distance(points)).max() < 1e-6
    areas = 4 * math.pi * 0.16, 2 * math.pi * 0.02 * 1.6 + 2 * math.pi * 0.02**2
    share = ((points[:, 0] - 1.0) / 3.0 > 0.2).mean()
    assert share == pytest.approx(areas[1] / sum(areas), abs=0.008)
    ball = normals[(points[:, 0] - 1.0) / 3.0 < 0.2]
    assert np.abs(ball.mean(0)).max() < 0.02 and np.allclose((ball**2).mean(0), 1 / 3, atol=0.01)


def test_closest_points_undo_a_small_push(scene):
    points, normals = scene.surface_points(4000, np.random.default_rng(0))
    pushed = points + 0.004 * normals
    distance = scene.surface_distance(pushed)
    assert np.abs(scene.signed_distance(scene.closest_points(pushed))).max() < 1e-6
    assert np.quantile(np.abs(distance - 0.004), 0.95) < 1e-5
    assert (scene.signed_distance(pushed) <= distance + 1e-9).all()


def test_visible_points_leave_out_what_no_camera_sees(scene):
    cameras = scene.cameras("train")
    points, normals = scene.visible_surface_points(1000, cameras, np.random.default_rng(0))
    assert points.shape == (1000, 3) and scene.visible(points, normals, cameras).all()
    everywhere, their_normals = scene.surface_points(3000, np.random.default_rng(1))
    share = scene.visible(everywhere, their_normals, cameras).mean()
    assert 0.9 < share < 1.0  # only cracks at contacts are hidden
    above = cameras[cameras.positions[:, 2] > 1.6]
    hidden = ~scene.visible(everywhere, their_normals, above)
    underside = (their_normals[:, 2] < -0.9) & (everywhere[:, 2] < scene.centre[2] - 0.3)
    assert underside.sum() > 100 and hidden[underside].all()
    nowhere = Cameras.pinhole(np.eye(4) + np.array([[0, 0, 0, 50.0]] + [[0] * 4] * 3), 50.0, 20, 20)
    with pytest.raises(UserError, match="next to nothing"):
        scene.visible_surface_points(10, nowhere, np.random.default_rng(0))


def test_visible_agrees_with_the_pictures(scene):
    """A point counts as seen exactly where its projection falls on a pixel of the same depth."""
    cameras = scene.cameras("test", size=200)[2]
    view = scene.render(cameras, 0)
    points, normals = scene.surface_points(4000, np.random.default_rng(2))
    seen = scene.visible(points, normals, cameras)
    pixels, z_depth = cameras.project(torch.from_numpy(points), torch.zeros(len(points), dtype=torch.int64))
    column, row = pixels.floor().long().T
    inside = (column >= 0) & (column < 200) & (row >= 0) & (row < 200)
    shown = view["z_depth"][row.clamp(0, 199), column.clamp(0, 199)]
    same = (np.abs(shown - z_depth.numpy()) < 0.02) & inside.numpy()
    assert 0.2 < seen.mean() < 0.7
    assert (seen == same).mean() > 0.96


def test_the_mesh_is_the_surface(scene):
    mesh = scene.surface_mesh(96)
    assert np.abs(scene.signed_distance(mesh.vertices)).max() < 1e-6
    assert mesh.is_watertight and mesh.volume > 0
    centres = mesh.triangles_center
    assert np.abs(scene.signed_distance(centres)).mean() < 5e-4
    aligned = (mesh.face_normals * scene.normals(centres)).sum(1)
    assert (aligned > 0).mean() > 0.99
    points, _ = scene.surface_points(2000, np.random.default_rng(0))
    nearest = cKDTree(mesh.vertices).query(points)[0]
    assert np.quantile(nearest, 0.99) < 0.03


def test_cameras_go_all_round_and_hold_the_scene(scene):
    train, test = scene.cameras("train"), scene.cameras("test")
    assert len(train) == 60 and len(test) == 12 and train.size(0) == (200, 200)
    heights = train.positions[:, 2].numpy() - scene.centre[2]
    assert (heights < -0.8).sum() >= 8 and (heights > 0.8).sum() >= 15
    distance = (train.positions[:, None] - test.positions[None]).norm(dim=2)
    assert distance.min() > 0.05
    points, _ = scene.surface_points(3000, np.random.default_rng(0))
    for camera in range(len(train)):
        pixels, z_depth = train.project(
            torch.from_numpy(points), torch.full((len(points),), camera, dtype=torch.int64)
        )
        assert (z_depth > 0.5).all()
        assert ((pixels > 0) & (pixels < 200)).all(1).double().mean() > 0.995


def test_the_same_bytes_twice(tmp_path):
    for name in ("one", "two"):
        write_blender_capture(SyntheticScene(), tmp_path / name, size=24, counts={"train": 2, "test": 1})
    files = sorted(
        path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()
    )
    assert len(files) == 6
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_the_bundled_capture_reads_back_as_it_was_made(scene, tmp_path):
    capture = bundled_capture(tmp_path, **SMALL)
    assert capture.format == "blender" and len(capture) == 5
    assert {name: list(index) for name, index in capture.splits.items()} == {
        "train": [0, 1, 2],
        "test": [3, 4],
    }
    assert np.allclose(capture.extent.centre, scene.centre) and capture.extent.half_side == scene.half_side
    assert capture.extent.bounded and not capture.notes
    truth = Cameras.concatenate(
        [scene.cameras("train", count=3, size=24), scene.cameras("test", count=2, size=24)]
    )
    assert torch.allclose(capture.cameras.camera_to_world, truth.camera_to_world, atol=1e-9)
    pixels = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)).double() * 24
    for i in range(5):
        index = torch.full((50,), i)
        ours, theirs = (cameras.unproject(pixels, index) for cameras in (truth, capture.cameras))
        assert torch.allclose(ours, theirs, atol=1e-6)
        view = scene.render(truth, i)
        picture = np.concatenate([view["colour"], view["alpha"][..., None]], -1)
        assert np.abs(capture.images[i] - picture).max() <= 0.5 / 255 + 1e-6
    direct = datasets.open(bundled_folder(tmp_path, **SMALL))
    assert np.array_equal(direct.images.uint8(0), capture.images.uint8(0))
    # Even opened as any folder, the cube that is trained holds the scene.
    points, _ = scene.surface_points(1000, np.random.default_rng(0))
    assert direct.extent.contains(points).all()


def test_a_second_call_makes_nothing(tmp_path):
    folder = bundled_folder(tmp_path, **SMALL)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    time.sleep(0.02)
    assert bundled_folder(tmp_path, **SMALL) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def damage_picture(folder):
    path = folder / "train" / "r_001.png"
    path.write_bytes(path.read_bytes()[:-20])


def damage_record(folder):
    (folder / "ground_truth.json").write_text("{")


def damage_version(folder):
    record = json.loads((folder / "ground_truth.json").read_text())
    (folder / "ground_truth.json").write_text(json.dumps(record | {"version": 0}))


@pytest.mark.parametrize(
    "damage",
    [
        damage_picture,
        damage_record,
        damage_version,
        lambda folder: (folder / "test" / "r_000.png").unlink(),
        lambda folder: (folder / "ground_truth.json").unlink(),
        lambda folder: (folder / "ground_truth.json").write_text("[]"),
        lambda folder: (folder / "transforms_train.json").write_text("{}"),
    ],
)
def test_a_damaged_or_old_cache_is_made_again(tmp_path, damage):
    folder = bundled_folder(tmp_path, **SMALL)
    whole = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    damage(folder)
    assert bundled_folder(tmp_path, **SMALL) == folder
    again = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert again == whole
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # nothing half-made is left


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(SyntheticScene, "render", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bundled_folder(tmp_path, **SMALL)
    assert list((tmp_path / "synthetic").iterdir()) == []


def test_the_cache_folder_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("FIELDSTONE_CACHE", str(tmp_path / "here"))
    assert user_cache_folder() == tmp_path / "here"
    assert bundled_folder(**SMALL).is_relative_to(tmp_path / "here")


def test_bad_input_is_refused(scene):
    with pytest.raises(UserError, match="splits"):
        scene.cameras("validation")
    with pytest.raises(UserError, match="at least 1 camera"):
        scene.cameras("train", count=0)
    with pytest.raises(UserError, match="samples"):
        scene.render(scene.cameras("test", size=16), 0, samples=0)
    with pytest.raises(UserError, match="resolution"):
        scene.surface_mesh(4)
    with pytest.raises(UserError, match="at least one body"):
        SyntheticScene(())
    with pytest.raises(UserError, match="unknown pattern 'plaid'"):
        SyntheticScene((Body((sphere(0.1),), Material("plaid", ("#ffffff",))),))
    with pytest.raises(UserError, match="rrggbb"):
        SyntheticScene((Body((sphere(0.1),), Material("plain", ("white",))),))
    with pytest.raises(UserError, match="rounding"):
        round_box((0.1, 0.1, 0.1), 0.2)
    with pytest.raises(UserError, match="next to none"):
        one_shape(sphere(0.1), centre=(9.0, 0, 0)).surface_points(500, np.random.default_rng(0))
