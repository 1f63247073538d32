"""TSDF fusion of exact views of a sphere."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from fieldstone.core.errors import UserError
from fieldstone.tools.mesh.tsdf import fuse
from fieldstone.tools.mesh.views import cameras_around

CENTRE = np.array([10.0, -5.0, 2.0])
RADIUS = 0.6
VOXEL = 2 / 40
BOX = np.stack([CENTRE - 1, CENTRE + 1])


def colour_at(points):
    return 0.5 + 0.4 * np.sin(3 * (points - CENTRE))


def sphere_view(cameras, index, shift=0.0):
    """Exact z_depth of the sphere seen by one camera; `shift` moves the surface along the rays."""
    rays = cameras.image_rays(index)
    width, height = (int(v) for v in cameras.sizes[index])
    start, ahead = rays.origins.double().numpy() - CENTRE, rays.directions.double().numpy()
    b = (start * ahead).sum(1)
    square = b**2 - (start**2).sum(1) + RADIUS**2
    hit = square > 0
    distance = np.where(hit, -b - np.sqrt(np.maximum(square, 0)) + shift, 0.0)
    colour = np.where(hit[:, None], colour_at(start + CENTRE + distance[:, None] * ahead), 0.0)
    return {
        "z_depth_median": torch.from_numpy(distance * rays.z_per_distance.double().numpy()).reshape(
            height, width
        ),
        "opacity": torch.from_numpy(hit.astype(np.float32)).reshape(height, width),
        "colour": torch.from_numpy(colour).reshape(height, width, 3),
    }


@pytest.fixture(scope="module")
def cameras():
    return cameras_around(BOX, 14, 96)


@pytest.fixture(scope="module")
def views(cameras):
    return [sphere_view(cameras, i) for i in range(len(cameras))]


def test_the_sphere_comes_back_closed_and_coloured(cameras, views):
    vertices, faces, colours = fuse(views, cameras, BOX, 40).surface()
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    error = np.abs(np.linalg.norm(vertices - CENTRE, axis=1) - RADIUS)
    assert error.mean() < 0.05 * VOXEL
    assert error.max() < 0.25 * VOXEL
    assert mesh.is_watertight
    assert mesh.volume > 0
    assert np.abs(colours - colour_at(vertices)).mean() < 0.02


def test_a_lens_with_hardly_any_distortion_gives_what_a_pinhole_gives(cameras, views):
    """The first is projected point by point, the second inside the kernel."""
    plain = cameras[:4]
    params = plain.params.clone()
    params[:, 4] = 1e-12
    bent = replace(plain, models=("OPENCV",) * 4, params=params)
    assert plain.lenses.all_pinhole and not bent.lenses.all_pinhole
    plain, general = (fuse(views[:4], c, BOX, 40) for c in (plain, bent))
    np.testing.assert_allclose(plain.weights, general.weights, atol=1e-4)
    np.testing.assert_allclose(plain.blocks.values, general.blocks.values, atol=1e-4)
    np.testing.assert_allclose(plain.colours, general.colours, atol=1e-3)


def test_the_order_of_views_changes_nothing(cameras, views):
    """Views that disagree by half a voxel: an average clamped to recent views would follow the last ones."""
    mixed = [sphere_view(cameras, i, 0.025 * (-1) ** i) for i in range(len(cameras))]
    forward = fuse(mixed, cameras, BOX, 32)
    order = list(reversed(range(len(cameras))))
    backward = fuse([mixed[i] for i in order], cameras[order], BOX, 32)
    np.testing.assert_allclose(forward.blocks.values, backward.blocks.values, atol=1e-5)
    np.testing.assert_allclose(forward.weights, backward.weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(forward.colours, backward.colours, atol=1e-4)


def test_the_value_is_the_mean_of_all_views(cameras):
    """Ten times one view, once the same but further: the surface lies at the mean, 1/11 of the
    way.
    """
    one = cameras[[3] * 11]
    near, far = sphere_view(cameras, 3, 0.0), sphere_view(cameras, 3, 0.11)
    vertices, _, _ = fuse([*[near] * 10, far], one, BOX, 40).surface()
    towards = cameras.camera_to_world[3, :3, 3].numpy() - CENTRE
    towards = towards / np.linalg.norm(towards)
    facing = (vertices - CENTRE) @ towards > 0.95 * RADIUS
    depth = np.linalg.norm(vertices[facing] - CENTRE, axis=1) - RADIUS
    assert facing.sum() > 20
    assert depth.mean() == pytest.approx(-0.01, abs=0.002)


def test_distance_is_measured_along_the_ray():
    """A voxel seen 40 degrees off axis: its signed distance is along its ray, not along the optical
    axis.
    """
    from fieldstone.render.cameras import Cameras

    camera = Cameras.pinhole(torch.eye(4, dtype=torch.float64)[None], 100.0, 240, 240)
    wall = torch.full((240, 240), 2.0)  # z = 2
    box = np.array([[-2.0, -2.0, 1.5], [2.0, 2.0, 2.5]])
    fusion = fuse([{"z_depth_median": wall}], camera, box, 80, truncation_voxels=4)
    lattice = fusion.blocks.lattice
    index = np.array([[74, 40, 8]])  # x = 1.7, y = 0, z = 1.9
    x, y, z = lattice.positions(index)[0]
    along_the_ray = (2.0 - z) * np.linalg.norm([x, y, z]) / z
    assert x / z > 0.8
    expected = along_the_ray / fusion.truncation
    assert fusion.blocks.at(index)[0] == pytest.approx(expected, abs=0.02)
    assert abs(expected - (2.0 - z) / fusion.truncation) > 0.1


def test_one_view_makes_no_surface_at_the_frontier(cameras, views):
    """What lies behind the sphere was never seen: the mesh is the visible cap and nothing else."""
    vertices, faces, _ = fuse(views[:1], cameras[0], BOX, 40).surface()
    assert len(faces) > 100
    assert np.abs(np.linalg.norm(vertices - CENTRE, axis=1) - RADIUS).max() < 0.08
    assert not trimesh.Trimesh(vertices, faces, process=False).is_watertight


def test_free_space_carves_what_one_view_made_up(cameras, views):
    liar = {key: value.clone() for key, value in views[0].items()}
    liar["z_depth_median"][22:28, 40:56] = (
        cameras.camera_to_world[0, :3, 3].sub(torch.from_numpy(CENTRE)).norm()
    )
    liar["opacity"][22:28, 40:56] = 1.0
    alone, _, _ = fuse([liar], cameras[0], BOX, 40).surface()
    together, _, _ = fuse([liar, *views[1:]], cameras, BOX, 40).surface()
    off = lambda v: np.abs(np.linalg.norm(v - CENTRE, axis=1) - RADIUS).max()  # noqa: E731
    assert off(alone) > 0.2
    assert off(together) < 0.05


def test_wrong_views_are_refused(cameras, views):
    with pytest.raises(UserError, match="2 views for 14 cameras"):
        fuse(views[:2], cameras, BOX, 32)
    with pytest.raises(UserError, match="no 'z_depth'"):
        fuse(views[:1], cameras[0], BOX, 32, z_depth="z_depth")
    with pytest.raises(UserError, match="rows, columns"):
        fuse([{"z_depth_median": torch.ones(5, 5)}], cameras[0], BOX, 32)
    with pytest.raises(UserError, match="no surface"):
        fuse(views, cameras, BOX + 50, 32)
