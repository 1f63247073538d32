"""Every back end against the brute-force reference, and the reference against geometry known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh

from fieldstone.core.errors import UserError
from fieldstone.render.cameras import Cameras, Rays
from fieldstone.render.rasterise import RASTERISING, fragments

BACKENDS = [name for name in RASTERISING.available("cpu") if name != "reference"]


def sphere(subdivisions=2, dtype=torch.float32):
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    return torch.tensor(np.array(mesh.vertices), dtype=dtype), torch.tensor(np.array(mesh.faces))


def soup(count, generator, spread=2.0):
    vertices = torch.randn(3 * count, 3, generator=generator) * spread
    return vertices, torch.arange(3 * count).reshape(-1, 3)


def pinhole(position=(0.0, 0.0, -3.0), focal=60.0, width=70, height=45):
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 3] = torch.tensor(position, dtype=torch.float64)
    return Cameras.pinhole(pose, focal, width, height)


def assert_same(found, expected):
    """Equal faces, but for rays that pass an edge, or two surfaces, closer than rounding."""
    other = found.face != expected.face
    assert other.float().mean() < 1e-3
    near_edge = torch.minimum(found.barycentric.amin(-1), expected.barycentric.amin(-1)) < 1e-5
    near_tie = (found.distance - expected.distance).abs() < 1e-5
    row = (near_edge | near_tie).any(-1, keepdim=True)  # one missed edge shifts the layers behind it
    assert (~other | row).all()
    same = ~other
    torch.testing.assert_close(found.barycentric[same], expected.barycentric[same], atol=2e-5, rtol=0)
    torch.testing.assert_close(found.distance[same], expected.distance[same], atol=0, rtol=2e-6)


CASES = {
    "sphere": {"layers": 3},
    "one layer": {"layers": 1},
    "clipped": {"layers": 2, "near": 2.2, "far": 3.9},
    "front only": {"layers": 2, "back_faces": False},
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_a_back_end_agrees_with_the_reference_on_a_frame(backend, options):
    vertices, faces = sphere()
    expected = fragments(vertices, faces, pinhole(), backend="reference", **options)
    assert expected.mask.any()
    assert_same(fragments(vertices, faces, pinhole(), backend=backend, **options), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("position", [(0.0, 0.0, -3.0), (0.1, -0.2, 0.3)], ids=["outside", "inside"])
def test_a_back_end_agrees_on_faces_all_around_the_camera(backend, position):
    """Large faces, some of them behind the camera, some through its plane: nothing is clipped, nothing lost."""
    generator = torch.Generator().manual_seed(3)
    vertices, faces = soup(400, generator)
    camera = pinhole(position, focal=30.0)
    expected = fragments(vertices, faces, camera, 5, backend="reference")
    assert expected.mask[..., 4].float().mean() > 0.5
    assert_same(fragments(vertices, faces, camera, 5, backend=backend), expected)


def test_a_plane_is_where_it_is():
    vertices = torch.tensor([[-9.0, -9.0, 2.0], [9.0, -9.0, 2.0], [0.0, 20.0, 2.0]])
    found = fragments(vertices, torch.tensor([[0, 1, 2]]), pinhole((0, 0, 0)))
    assert found.mask.all()
    torch.testing.assert_close(found.z_depth, torch.full_like(found.z_depth, 2.0))
    points = (found.barycentric[..., 0, :, None] * vertices).sum(-2)
    torch.testing.assert_close(points.norm(dim=-1), found.distance[..., 0])


def test_a_layer_that_is_absent_says_so():
    vertices, faces = sphere()
    found = fragments(vertices, faces, pinhole(), 4)
    absent = ~found.mask
    assert absent[..., 2:].all() and absent[0, 0].all() and not absent[22, 35, :2].any()
    assert (found.face[absent] == -1).all()
    assert not found.distance[absent].any() and not found.barycentric[absent].any()


def test_every_ray_meets_a_closed_surface_an_even_number_of_times():
    """Watertight: also where edges and vertices lie exactly on pixel centres, with corners shared or repeated."""
    box = trimesh.creation.box(extents=(2, 2, 2)).subdivide().subdivide()
    shared = torch.tensor(np.array(box.vertices), dtype=torch.float32), torch.tensor(np.array(box.faces))
    repeated = shared[0][shared[1]].reshape(-1, 3), torch.arange(3 * len(box.faces)).reshape(-1, 3)
    camera = pinhole((0.0, 0.0, -5.0), focal=64.0, width=65, height=65)
    for vertices, faces in (shared, repeated):
        for backend in ("cpu", "reference"):
            found = fragments(vertices, faces, camera, 6, backend=backend)
            front = fragments(vertices, faces, camera, 6, backend=backend, back_faces=False)
            assert set(found.mask.sum(-1).unique().tolist()) == {0, 2}
            assert set(front.mask.sum(-1).unique().tolist()) == {0, 1}
            assert (front.mask.any(-1) == found.mask.any(-1)).all()


def test_gradients_of_depth_and_barycentrics_reach_the_vertices():
    vertices, faces = sphere(1, torch.float64)
    camera = pinhole((0.13, -0.07, -3.0), width=12, height=9, focal=9.0)  # no ray through an edge

    def measured(moved):
        found = fragments(moved, faces, camera, 2)
        return found.barycentric, found.z_depth

    assert torch.autograd.gradcheck(measured, vertices.clone().requires_grad_(), eps=1e-7, atol=1e-5)


def test_gradients_reach_rays():
    vertices, faces = sphere(1, torch.float64)
    origins = torch.tensor([[0.1, 0.05, -3.0], [0.0, 2.0, 0.3]], dtype=torch.float64)
    directions = torch.nn.functional.normalize(-origins + 0.1, dim=1)

    def measured(origins, directions):
        found = fragments(vertices, faces, Rays(origins, directions, torch.ones(2)), 2)
        return found.barycentric, found.distance

    inputs = origins.requires_grad_(), directions.requires_grad_()
    assert torch.autograd.gradcheck(measured, inputs, eps=1e-7, atol=1e-5)


def test_bad_meshes_are_refused_in_one_line():
    vertices, faces = sphere(0)
    with pytest.raises(UserError, match=r"face 3 has the corners \[0, 1, 99\], but there are 12 vertices"):
        fragments(vertices, torch.cat([faces[:3], torch.tensor([[0, 1, 99]])]), pinhole())
    with pytest.raises(UserError, match=r"face 0 has the corners \[0, -1, 2\]"):
        fragments(vertices, torch.tensor([[0, -1, 2]]), pinhole())
    broken = vertices.clone()
    broken[5, 1] = math.nan
    with pytest.raises(UserError, match="1 of 12 vertices are not finite, the first is vertex 5"):
        fragments(broken, faces, pinhole())
    flat = torch.cat([faces, torch.tensor([[0, 0, 1], [2, 2, 2]])])
    with pytest.warns(UserWarning, match="2 of 22 faces have no area"):
        found = fragments(vertices, flat, pinhole())
    assert found.mask.any() and found.face.max() < 20
    with pytest.raises(UserError, match="layers 0"):
        fragments(vertices, faces, pinhole(), 0)
    with pytest.raises(UserError, match="2 cameras"):
        fragments(vertices, faces, Cameras.concatenate([pinhole(), pinhole()]))


def test_an_empty_mesh_is_an_empty_picture():
    for backend in RASTERISING.available("cpu"):
        found = fragments(
            torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64), pinhole(), 2, backend=backend
        )
        assert not found.mask.any() and found.face.shape == (45, 70, 2)


def lenses():
    """A camera of each kind of lens at the same place, small enough for the reference."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 3] = torch.tensor([0.1, -0.05, -2.5])
    kinds = {
        "OPENCV": [40.0, 42.0, 24.0, 16.0, -0.2, 0.05, 0.003, -0.002],
        "OPENCV_FISHEYE": [18.0, 18.0, 24.0, 16.0, 0.02, -0.004, 0.0, 0.0],
        "EQUIRECTANGULAR": [],
    }
    for model, params in kinds.items():
        yield Cameras(
            (model,),
            torch.tensor([params + [0.0] * (12 - len(params))]),
            torch.tensor([[48, 32]]),
            pose[None],
        )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("camera", list(lenses()), ids=lambda camera: camera.models[0])
def test_a_back_end_agrees_through_any_lens(backend, camera):
    vertices, faces = soup(300, torch.Generator().manual_seed(5))
    expected = fragments(vertices, faces, camera, 3, backend="reference")
    assert expected.mask[..., 2].any()
    assert_same(fragments(vertices, faces, camera, 3, backend=backend), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_pixels_across_images_are_those_of_the_images(backend):
    vertices, faces = sphere(3)
    cameras = Cameras.concatenate([pinhole(), pinhole((0.5, 0.2, -2.0)), pinhole((0.0, 0.0, 0.2), 25.0)])
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(3, (500,), generator=generator)
    column, row = (
        torch.randint(70, (500,), generator=generator),
        torch.randint(45, (500,), generator=generator),
    )
    found = fragments(
        vertices,
        faces,
        cameras,
        2,
        index=index,
        pixels=torch.stack([column, row], 1) + 0.5,
        near=0.3,
        backend=backend,
    )
    frames = [fragments(vertices, faces, cameras[i], 2, near=0.3) for i in range(3)]
    for name in ("face", "barycentric", "distance", "z_depth"):
        of_frames = torch.stack([getattr(frame, name) for frame in frames])[index, row, column]
        torch.testing.assert_close(getattr(found, name), of_frames, atol=2e-5, rtol=1e-5)
