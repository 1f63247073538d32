"""Attributes, textures, edges and layers: known values, and gradients against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh

from fieldstone.core.errors import UserError
from fieldstone.render.cameras import Cameras
from fieldstone.render.rasterise import (
    antialias,
    composite_layers,
    fragments,
    interpolate,
    layer_order,
    mesh_edges,
    mip_pyramid,
    sample_texture,
    soft_silhouette,
    texture_level,
    vertex_normals,
)


def sphere(subdivisions=2, dtype=torch.float64):
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    return torch.tensor(np.array(mesh.vertices), dtype=dtype), torch.tensor(np.array(mesh.faces))


def camera(focal=34.0, width=36, height=30, position=(0.13, -0.07, -3.0)):
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 3] = torch.tensor(position, dtype=torch.float64)
    return Cameras.pinhole(pose, focal, width, height)


def square(z=2.0, half=1.0, dtype=torch.float64):
    vertices = torch.tensor(
        [[-half, -half, z], [half, -half, z], [half, half, z], [-half, half, z]], dtype=dtype
    )
    return vertices, torch.tensor([[0, 1, 2], [0, 2, 3]])


def test_interpolating_positions_gives_the_points_that_rays_meet():
    vertices, faces = sphere()
    found = fragments(vertices, faces, camera(), 3)
    points = interpolate(vertices, faces, found)
    origins, directions, _ = found.view.rays
    expected = origins.reshape(30, 36, 1, 3) + found.distance[..., None] * directions.reshape(30, 36, 1, 3)
    torch.testing.assert_close(points[found.mask], expected[found.mask])
    assert not points[~found.mask].any()


def test_interpolation_has_the_gradient_of_its_definition():
    vertices, faces = sphere(0)
    view = camera(9.0, 10, 8)
    features = torch.randn(len(vertices), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def interpolated(vertices, features):
        return interpolate(features, faces, fragments(vertices, faces, view, 2))

    inputs = vertices.clone().requires_grad_(), features.requires_grad_()
    assert torch.autograd.gradcheck(interpolated, inputs, eps=1e-7, atol=1e-5)


def test_normals_of_a_sphere_point_outwards():
    vertices, faces = sphere(3)
    torch.testing.assert_close(vertex_normals(vertices, faces), vertices, atol=0.02, rtol=0)


def test_edges_know_boundaries_and_edges_of_three_faces():
    edges = mesh_edges(torch.tensor([[0, 1, 2], [2, 1, 3]]))
    assert edges.ends.tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]
    assert edges.faces.tolist() == [[0, -1], [0, -1], [0, 1], [1, -1], [1, -1]]
    assert edges.forward[2].tolist() == [True, False]
    fin = mesh_edges(torch.tensor([[0, 1, 2], [2, 1, 3], [1, 2, 4]]))
    assert (fin.faces[:, 1] == -1).all() and len(fin.ends) == 9
    _, faces = sphere(1)
    closed = mesh_edges(faces)
    assert (closed.faces >= 0).all() and len(closed.ends) == len(faces) * 3 // 2
    assert (closed.forward[:, 0] != closed.forward[:, 1]).all()


def covered_area(vertices, faces, view, finer):
    """Pixels covered, by counting samples."""
    width, height = view.size(0)
    found = fragments(vertices, faces, view.resized(width * finer, height * finer))
    return found.mask.double().sum() / finer**2


@pytest.mark.parametrize("shift", [0.0, 0.003, 0.0127])
def test_antialiasing_gives_a_pixel_the_share_that_is_covered(shift):
    vertices, faces = square()
    vertices = vertices + torch.tensor([shift, 0.0, 0.0], dtype=torch.float64)
    view = camera(20.0, position=(0.011, 0.007, 0.0))
    found = fragments(vertices, faces, view)
    mask = antialias(found.mask[..., 0].double(), found, vertices, faces)
    assert mask.sum().item() == pytest.approx(covered_area(vertices, faces, view, 16).item(), abs=1.0)
    assert ((mask >= 0) & (mask <= 1)).all()


@pytest.mark.parametrize("direction", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), "inflate"])
def test_the_gradient_of_a_silhouette_loss_is_that_of_the_area_it_covers(direction):
    """Against finite differences of the area counted with 256 samples a pixel, weighted so that translations count."""
    vertices, faces = sphere(3)
    view = camera()
    move = (
        vertices
        if direction == "inflate"
        else torch.tensor(direction, dtype=torch.float64).expand_as(vertices)
    )
    width, height = view.size(0)
    weight = (
        torch.linspace(0, 1, width, dtype=torch.float64)[None]
        + torch.linspace(0, 2, height, dtype=torch.float64)[:, None]
    )

    def soft(amount):
        moved = vertices + amount * move
        found = fragments(moved, faces, view)
        return (weight * antialias(found.mask[..., 0].double(), found, moved, faces)).sum()

    def counted(amount, finer=16):
        found = fragments(vertices + amount * move, faces, view.resized(width * finer, height * finer))
        fine = weight.repeat_interleave(finer, 0).repeat_interleave(finer, 1)
        return (fine * found.mask[..., 0]).sum().item() / finer**2

    amount = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(soft(amount), amount)
    step = 0.05
    expected = (counted(step) - counted(-step)) / (2 * step)
    # where the outline turns from steep to flat one crossing more or less is found: about 12 pixels a unit, times a weight near 1.5
    assert gradient.item() == pytest.approx(expected, rel=0.06, abs=25.0)


def test_following_the_silhouettes_gradient_recovers_a_shift():
    vertices, faces = sphere(2, torch.float32)
    view = camera()
    edges = mesh_edges(faces)
    target = soft_silhouette(fragments(vertices, faces, view), vertices, faces, 1.0, edges)
    shift = torch.tensor([0.5, -0.3, 0.0], requires_grad=True)
    optimiser = torch.optim.Adam([shift], lr=0.03)
    for _ in range(60):
        moved = vertices + shift * torch.tensor([1.0, 1.0, 0.0])
        loss = (
            (soft_silhouette(fragments(moved, faces, view), moved, faces, 1.0, edges) - target)
            .square()
            .mean()
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert shift.detach().norm() < 0.03


def test_a_soft_silhouette_is_a_sigmoid_of_the_distance_to_the_outline():
    vertices, faces = square()
    view = camera(position=(0.0, 0.0, 0.0), focal=20.0)  # the square covers columns 8 to 28 and rows 5 to 25
    soft = soft_silhouette(fragments(vertices, faces, view), vertices, faces, 1.5)
    column, row = torch.arange(36) + 0.5, torch.arange(30) + 0.5
    inside = torch.minimum(
        torch.minimum(column - 8, 28 - column)[None], torch.minimum(row - 5, 25 - row)[:, None]
    )
    beside = (
        (8 - column).clamp_min(0) + (column - 28).clamp_min(0),
        (5 - row).clamp_min(0) + (row - 25).clamp_min(0),
    )
    outside = (beside[0].square()[None] + beside[1].square()[:, None]).sqrt()
    expected = torch.sigmoid(torch.where(inside > 0, inside, -outside) / 1.5).double()
    torch.testing.assert_close(soft, expected, atol=2e-3, rtol=0)


def test_a_soft_silhouette_has_the_gradient_of_its_definition():
    vertices, faces = sphere(1)
    view = camera(12.0, 14, 12)

    def soft(amount):
        moved = vertices * (1 + amount[0]) + amount[1:4]
        return soft_silhouette(fragments(moved, faces, view), moved, faces, 2.0)

    amount = torch.tensor([0.01, 0.02, -0.015, 0.03], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(soft, amount, eps=1e-7, atol=1e-5)


def test_layers_are_blended_front_to_back_and_absent_ones_let_everything_through():
    values = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [math.nan, math.nan]]])
    opacity = torch.tensor([[0.25, 0.5, 1.0]], requires_grad=True)
    mask = torch.tensor([[True, True, False]])
    seen = composite_layers(values, opacity, mask)
    torch.testing.assert_close(seen.colour, torch.tensor([[0.25, 0.375]]))
    torch.testing.assert_close(seen.opacity, torch.tensor([0.625]))
    seen.colour.sum().backward()
    torch.testing.assert_close(opacity.grad, torch.tensor([[1 - 0.5, 0.75, 0.0]]))
    order = layer_order(torch.tensor([[3.0, 1.0, 0.0, 2.0]]), torch.tensor([[True, True, False, True]]))
    assert order.tolist() == [[1, 3, 0, 2]]


def test_blending_has_the_gradient_of_its_definition_also_behind_an_opaque_layer():
    generator = torch.Generator().manual_seed(1)
    values = torch.rand(5, 4, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    opacity = torch.rand(5, 4, dtype=torch.float64, generator=generator) * 0.8 + 0.1
    opacity[2, 1] = 1.0
    mask = torch.arange(4) < torch.tensor([4, 3, 4, 0, 1])[:, None]
    assert torch.autograd.gradcheck(
        lambda v, o: composite_layers(v, o, mask)[:2], (values, opacity.requires_grad_())
    )


def test_a_texture_is_met_texel_by_texel_and_repeats():
    texture = torch.arange(12, dtype=torch.float64).reshape(3, 4, 1)
    row, column = torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij")
    uv = torch.stack([(column.double() + 0.5) / 4, 1 - (row.double() + 0.5) / 3], -1)
    torch.testing.assert_close(sample_texture(texture, uv), texture)
    torch.testing.assert_close(sample_texture(texture, uv + torch.tensor([2.0, -3.0])), texture)
    corner = torch.tensor([[-5.0, 9.0]], dtype=torch.float64)
    assert sample_texture(texture, corner, wrap="clamp").item() == 0
    half = sample_texture(texture, torch.tensor([[0.25, 1 - 0.5 / 3]], dtype=torch.float64))
    assert half.item() == pytest.approx(0.5)


def test_texture_look_ups_have_the_gradient_of_their_definition():
    generator = torch.Generator().manual_seed(2)
    texture = torch.rand(8, 6, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    uv = (torch.rand(20, 2, dtype=torch.float64, generator=generator) * 3 - 1).requires_grad_()
    level = torch.rand(20, dtype=torch.float64, generator=generator) * 4 - 0.5
    for wrap in ("repeat", "clamp"):

        def look_up(texture, uv, wrap=wrap):
            return sample_texture(mip_pyramid(texture), uv, level, wrap)

        assert torch.autograd.gradcheck(look_up, (texture, uv), eps=1e-7, atol=1e-6)


def test_the_level_is_how_many_texels_a_pixel_spans():
    vertices, faces = square(z=2.0)
    uv = torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=torch.float64)
    view = camera(focal=20.0, position=(0.0, 0.0, 0.0))  # 2 units over 20 pixels
    found = fragments(vertices, faces, view)
    level = texture_level(found, vertices, faces, uv, faces, (320, 640))  # 16 by 32 texels a pixel
    torch.testing.assert_close(
        level[found.mask], torch.full((int(found.mask.sum()),), 5.0, dtype=torch.float64)
    )
    fine = torch.rand(320, 640, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    blurred = sample_texture(mip_pyramid(fine), interpolate(uv, faces, found), level)[found.mask]
    sharp = sample_texture(fine, interpolate(uv, faces, found))[found.mask]
    assert blurred.std() < 0.05 < sharp.std()


def test_outlines_need_a_frame():
    vertices, faces = sphere(1)
    found = fragments(vertices, faces, camera(), index=torch.tensor([0]), pixels=torch.tensor([[18.0, 15.0]]))
    with pytest.raises(UserError, match="whole frame"):
        soft_silhouette(found, vertices, faces, 1.0)
