"""Primitives that go, come and move; exposures of images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fieldstone import datasets
from fieldstone.datasets.synthetic.street_files import street_cameras, write_street
from fieldstone.fields.optim.adam import GridAdam
from fieldstone.fields.primitives import PrimitiveAppearance, PrimitiveGeometry, Voxels, voxelise
from fieldstone.render.rasterise import fragments
from fieldstone.tools.training.dnmp import DnmpMethod
from fieldstone.tools.training.dnmp_population import densify, heaviest, missed_points, side_at
from fieldstone.tools.training.dnmp_shading import Primitives
from fieldstone.tools.training.dnmp_sweep import agreeing, sweep
from fieldstone.tools.training.methods import optimiser_groups

SETTINGS = {
    "voxel": 1.0, "hash_levels": 6, "primitives_a_step": 256, "pixels": 1024, "backend": "auto", "precision": "auto"
}  # fmt: skip


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    folder = tmp_path_factory.mktemp("population") / "street"
    return folder, write_street(folder, frames=5, width=128, height=40, without_pose=(), columns=240)


def wall(distance: float, generator) -> np.ndarray:
    """Points of a wall across the view of a camera at the origin that looks along z."""
    return np.column_stack([generator.uniform(-2, 2, (3000, 2)), np.full(3000, distance)])


def camera():
    from fieldstone.render.cameras import Cameras

    return Cameras.pinhole(np.eye(4)[None], 40.0, 48, 48)


def test_primitives_that_are_hidden_or_transparent_weigh_nothing():
    generator = np.random.default_rng(0)
    voxels = [voxelise(wall(z, generator), 0.5, generator=generator) for z in (3.25, 6.25, -4.25)]
    geometry = PrimitiveGeometry.of(voxels)
    front = len(voxels[0].centres)
    look = PrimitiveAppearance(
        42 * len(geometry), features=4, levels=0, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        vertices, faces = geometry.vertices(), geometry.faces
    found = fragments(vertices, faces, camera(), 2, back_faces=False)
    scene = Primitives(vertices, faces, look, 8.0)
    most = heaviest(scene, [(camera(), found)])
    in_sight = found.face[found.mask].long() // 80
    assert (most[torch.unique(in_sight)] > 0).all() and most[:front].max() > 0.5
    unseen = torch.ones(len(geometry), dtype=torch.bool)
    unseen[in_sight] = False
    assert unseen.any() and not most[unseen].any()
    # made transparent, the front lets the back through, and is what goes
    with torch.no_grad():
        look.opacity_head.weights[-1].zero_()
        look.vertex[: 42 * front, 0] = 50.0
        look.opacity_head.weights[0].zero_()
        look.opacity_head.weights[0][:, 0] = 1.0
        look.opacity_head.weights[-1][0] = -1.0
    again = heaviest(scene, [(camera(), found)])
    back = slice(front, front + len(voxels[1].centres))
    assert again[:front].max() < 1e-3 < 0.05 < again[back].max()
    assert not again[back.stop :].any()


def test_a_hole_is_found_and_filled():
    generator = np.random.default_rng(1)
    points = torch.from_numpy(wall(4.25, generator))
    voxels = voxelise(points.numpy(), 0.5, generator=generator)
    hole = (np.abs(voxels.centres[:, :2]) < 0.6).all(1)
    left = Voxels(0.5, voxels.centres[~hole], voxels.points[~hole], voxels.counts[~hole], 0)
    geometry = PrimitiveGeometry.of([left], spare=200)
    with torch.no_grad():
        seen = [(camera(), fragments(geometry.vertices(), geometry.faces, camera(), 1))]
    missed = missed_points(points, seen, 0.5)
    # a few are seen through the seams of the others
    assert len(missed) > 50 and (np.abs(missed[:, :2]) < 1.1).all(1).mean() > 0.7
    before = int(geometry.alive.sum())
    rows, samples = densify(
        geometry,
        missed,
        side_at(0.5, np.full(len(missed), 4.0)),
        minimum=3,
        start="encoder",
        generator=generator,
    )
    assert int(geometry.alive.sum()) - before == len(rows) == len(samples) == hole.sum()
    assert (geometry.centres[rows, :2].abs() < 0.6).all()
    with torch.no_grad():
        after = fragments(geometry.vertices(), geometry.faces, camera(), 1)
    middle = (slice(18, 30), slice(18, 30), 0)
    assert not seen[0][1].mask[middle].all() and after.mask[middle].float().mean() > 0.95
    in_hole = [
        (np.abs(m[:, :2]) < 0.6).all(1).sum()
        for m in (missed_points(points, [(camera(), after)], 0.5), missed)
    ]
    assert in_hole[0] < 0.35 * in_hole[1]


def test_only_as_many_are_added_as_there_are_spare_ones_those_with_most_points_first():
    generator = np.random.default_rng(2)
    cloud = np.concatenate([generator.uniform(0, 0.5, (40, 3)), generator.uniform(5, 5.5, (9, 3))])
    geometry = PrimitiveGeometry(1, spare=1)
    rows, _ = densify(geometry, cloud, np.full(49, 0.5), minimum=3, start="pca", generator=generator)
    assert rows.tolist() == [1] and (geometry.centres[1] < 0.5).all() and geometry.alive.all()
    rows, samples = densify(geometry, cloud, np.full(49, 0.5), minimum=3, start="pca", generator=generator)
    assert len(rows) == len(samples) == 0


def test_a_flat_patch_starts_as_a_disc_along_it():
    generator = np.random.default_rng(3)
    voxels = voxelise(wall(4.25, generator), 0.5, generator=generator)
    for start, bound in (("sphere", None), ("pca", 0.12), ("encoder", 0.12)):
        geometry = PrimitiveGeometry.of([voxels], start)
        with torch.no_grad():
            off = (geometry.vertices()[:, 2] - 4.25).abs().mean()
        assert off > 0.15 if bound is None else off < bound, start


def test_sweeping_finds_where_a_house_stands(street):
    capture = datasets.open(street[0])
    images = [torch.from_numpy(capture.images[i].mean(-1)) for i in range(5)]
    cameras = capture.cameras[torch.arange(5)]
    swept = [sweep(cameras, images, view, torch.ones(40, 128, dtype=torch.bool)) for view in (1, 3)]
    errors = []
    for each, view in zip(swept, (1, 3)):
        truth = street[1].render(cameras, view, samples=1)["z_depth"]
        pixels, z = cameras.project(each.points.double(), torch.tensor([view]))
        torch.testing.assert_close(z.float(), each.z_depth, rtol=1e-4, atol=1e-3)
        there = truth[pixels[:, 1].long(), pixels[:, 0].long()]
        errors.append(np.abs(each.z_depth.numpy() - there)[there > 0] / there[there > 0])
    errors = np.concatenate(errors)
    assert len(errors) > 1000 and np.median(errors) < 0.1
    points, side = agreeing(swept, 1.0, views=2)
    assert 100 < len(points) == len(side) < sum(len(each.points) for each in swept)
    assert len(sweep(cameras, images, 1, torch.zeros(40, 128, dtype=torch.bool)).points) == 0


def steps(method: DnmpMethod, count: int, progress: float) -> list[float]:
    optimiser = GridAdam(optimiser_groups(method.groups()))
    losses = []
    for step in range(count):
        method.before_step(step, progress)
        loss, _ = method.loss(method.batch(step))
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def test_an_exposure_put_into_a_picture_is_recovered(street):
    capture = datasets.open(street[0])
    method = DnmpMethod(
        capture, SETTINGS | {"exposure": True, "spare": 0, "far": False}, seed=0, device="cpu"
    )
    gain = torch.ones(len(method.train_split))
    gain[1] = 0.7
    for view, factor in enumerate(gain.tolist()):
        method._images[view] = (method._image(view).float() * factor).round().to(torch.uint8)
    steps(method, 350, 0.6)
    log_gain = method.corrections.log_gain.detach().mean(1)
    log_gain = log_gain - log_gain.mean()
    truth = gain.log() - gain.log().mean()
    assert (log_gain - truth).abs().max() < 0.08


def test_photographs_move_shapes_only_where_they_are_asked_to(street):
    capture = datasets.open(street[0])
    for joint in (False, True):
        method = DnmpMethod(capture, SETTINGS | {"joint": joint, "far": False}, seed=0, device="cpu")
        steps(method, 2, 0.5)
        before = method.geometry.codes.detach().clone()
        losses = steps(method, 12, 0.9)
        changed = (method.geometry.codes.detach() != before).any(1)
        assert changed.any() == joint and np.isfinite(losses).all()
        if joint:
            assert not changed[~method.geometry.alive].any()


def test_joint_gradients_are_those_of_finite_differences(street):
    from fieldstone.render.cameras import Rays
    from fieldstone.tools.training.dnmp_joint import moved

    generator = np.random.default_rng(4)
    geometry = PrimitiveGeometry.of([voxelise(wall(4.25, generator), 0.5, generator=generator)]).double()
    geometry.shapes.decoder.double()
    with torch.no_grad():
        scene = Primitives(geometry.vertices(), geometry.faces, None, 8.0)
    found = fragments(scene.vertices, scene.faces, camera(), 1)
    face = found.face.flatten(0, 1)[1200:1210]
    rays = camera().image_rays(0)
    rays = Rays(rays.origins[1200:1210].double(), rays.directions[1200:1210].double(), torch.ones(10))

    def total() -> torch.Tensor:
        vertices, weights = moved(geometry, scene, face, rays)
        corners = vertices[scene.faces[face[:, 0].long()].long()]
        return ((corners * weights[:, 0, :, None]).sum(1) ** 2).sum()

    owner = int(face[0, 0]) // 80
    total().backward()
    step, numeric = 1e-6, []
    for axis in range(3):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                geometry.shifts[owner, axis] += sign * step
                values.append(float(total()))
                geometry.shifts[owner, axis] -= sign * step
        numeric.append((values[0] - values[1]) / (2 * step))
    torch.testing.assert_close(
        geometry.shifts.grad[owner], torch.tensor(numeric, dtype=torch.float64), rtol=1e-4, atol=1e-6
    )


def test_a_scene_holds_living_primitives_only_and_outlives_a_file(street):
    capture = datasets.open(street[0])
    method = DnmpMethod(capture, dict(SETTINGS), seed=0, device="cpu")
    steps(method, 3, 0.12)
    assert method.densified
    steps(method, 3, 0.9)
    assert method.pruned and not method.geometry.alive.all()
    scene = method.scene()
    count = int(method.geometry.alive.sum())
    assert len(scene.primitives.vertices) == 42 * count == len(scene.primitives.appearance.vertex)
    assert scene.primitives.faces.shape == (80 * count, 3)
    again = DnmpMethod(capture, dict(SETTINGS), seed=1, device="cpu")
    again.load_state({name: value.clone() for name, value in method.state().items()})
    view = street_cameras(5, 48, 16)
    first, second = (each.scene().render_view(view, 2)["colour"] for each in (method, again))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
