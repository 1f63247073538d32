"""Mesh primitives: the template, distances with gradients, the shape space that we ship, and voxels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree

from fieldstone.core.errors import UserError
from fieldstone.fields.primitives import (
    KINDS,
    bundled_shapes,
    chamfer,
    draw_patches,
    laplacian,
    load_shapes,
    save_shapes,
    surface_samples,
    template,
    voxelise,
)
from fieldstone.tools.training.primitive_shapes import face_weights, train_shapes


def test_the_template_is_a_closed_sphere_with_its_front_outside():
    made = template()
    mesh = trimesh.Trimesh(made.vertices.numpy(), made.faces.numpy(), process=False)
    assert mesh.is_watertight and mesh.euler_number == 2 and mesh.volume > 3.5
    assert made.vertices.shape == (42, 3) and made.faces.shape == (80, 3) and made.edges.shape == (120, 2)
    torch.testing.assert_close(made.vertices.norm(dim=1), torch.ones(42))
    assert laplacian(made.vertices[None])[0] == pytest.approx(0.168, abs=0.02)


def test_samples_lie_on_the_surface_that_they_are_samples_of():
    weights = face_weights(3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(weights.sum(2), torch.ones(80, 3))
    samples = surface_samples(template().vertices[None], weights)[0]
    a, b, c = template().vertices[template().faces].unbind(1)
    normals = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)
    heights = samples @ normals.T - (a * normals).sum(
        1
    )  # the template is convex: on its surface the largest is 0
    assert heights.amax(1).abs().max() < 1e-6


def test_chamfer_distances_are_those_of_all_pairs_and_have_their_gradient():
    generator = torch.Generator().manual_seed(0)
    samples = torch.rand(2, 7, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    points = torch.rand(2, 5, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    there = torch.tensor([[True, True, True, False, True], [False] * 5])
    out, back = chamfer(samples, points, there)
    pairs = torch.cdist(samples[0], points[0][there[0]])
    torch.testing.assert_close(out[0], pairs.amin(1).mean())
    torch.testing.assert_close(back[0], pairs.amin(0).mean())
    assert out[1] == 0 and back[1] == 0
    assert torch.autograd.gradcheck(lambda s, p: chamfer(s, p, there), (samples, points))


def test_the_shapes_we_ship_hold_a_sphere_and_cover_what_they_are_shown():
    space = bundled_shapes()
    radii = space.decoder(space.sphere[None])[0].norm(dim=1)
    assert (radii - 1).abs().max() < 0.15
    assert not any(p.requires_grad for module in space[:2] for p in module.parameters())
    patches = draw_patches(60, np.random.default_rng(999))
    full, seen = torch.from_numpy(patches.full), torch.from_numpy(patches.seen)
    weights = face_weights(2, torch.Generator().manual_seed(1))

    def distance(codes):
        out, back = chamfer(surface_samples(space.decoder(codes), weights), full)
        return float((out + back).mean()) / 2

    encoded, sphere = distance(space.encoder(seen)), distance(space.sphere.expand(60, -1))
    assert encoded < 0.12 and encoded < 0.4 * sphere
    # a code's length does not count
    torch.testing.assert_close(space.decoder(7 * space.encoder(seen)), space.decoder(space.encoder(seen)))


def test_training_is_the_same_again_and_survives_a_file(tmp_path):
    first, second = (train_shapes(4, patches=12, seed=3, say=lambda line: None) for _ in range(2))
    torch.testing.assert_close(first.sphere, second.sphere, rtol=0, atol=0)
    save_shapes(tmp_path / "shapes.npz", first)
    loaded = load_shapes(tmp_path / "shapes.npz")
    codes = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loaded.decoder(codes), first.decoder(codes), rtol=0, atol=0)
    (tmp_path / "broken.npz").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match="not a shape space"):
        load_shapes(tmp_path / "broken.npz")


def test_patches_are_of_every_kind_and_inside_the_voxel():
    patches = draw_patches(3 * len(KINDS), np.random.default_rng(0))
    again = draw_patches(3 * len(KINDS), np.random.default_rng(0))
    np.testing.assert_array_equal(patches.full, again.full)
    assert np.abs(patches.full).max() <= 1 / np.sqrt(3) + 1e-6
    flatness = np.linalg.svd(patches.full - patches.full.mean(1, keepdims=True), compute_uv=False)[:, 2]
    assert (flatness[:: len(KINDS)] < 1e-3).all() and flatness[1] > 0.1


def test_voxels_hold_their_points_in_their_own_frame():
    generator = np.random.default_rng(0)
    points = np.concatenate([generator.uniform(-3, 3, (4000, 3)), [[50.0, 0, 0]]])
    voxels = voxelise(points, 0.7, minimum=2, sample=16, generator=generator)
    assert voxels.dropped >= 1 and voxels.counts.sum() + voxels.dropped == len(points)
    back = voxels.centres[:, None] + voxels.points * voxels.half_diagonal
    assert cKDTree(points).query(back.reshape(-1, 3))[0].max() < 1e-5
    assert (np.abs(back - voxels.centres[:, None]) <= 0.35 + 1e-5).all()


@pytest.mark.parametrize(
    ("points", "size", "message"),
    [
        (np.zeros((0, 3)), 0.5, "empty"),
        (np.array([[0, 0, np.nan]]), 0.5, "1 of 1 points are not finite"),
        (np.arange(9.0).reshape(3, 3), 0.1, "none of 3 voxels of side 0.1 holds 3 points"),
        (np.zeros((5, 3)), 0.0, "positive"),
    ],
)
def test_clouds_that_give_no_voxels_are_refused_in_one_line(points, size, message):
    with pytest.raises(UserError, match=message):
        voxelise(points, size, generator=np.random.default_rng(0))
