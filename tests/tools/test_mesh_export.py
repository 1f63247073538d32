"""A scene with a known surface and known colours, through the whole export and every file format."""

import json

import numpy as np
import pytest
import torch
import trimesh

from fieldstone.core.errors import UserError
from fieldstone.tools.mesh import export_mesh, mesh_report
from fieldstone.tools.mesh.colours import surface_colours
from fieldstone.tools.mesh.level import choose_level
from fieldstone.tools.mesh.settle import half_transmittance_offsets, settle
from fieldstone.tools.mesh.texture import bake
from fieldstone.tools.mesh.views import cameras_around, see_surface

CENTRE = np.array([100.0, -50.0, 7.0])
RADIUS, PEAK, SOFT = 0.6, 600.0, 0.01

# Where a ray from straight outside loses half its light: PEAK * SOFT * log(1 + exp(-x / SOFT)) = log 2.
SEEN_RADIUS = RADIUS - SOFT * np.log(np.expm1(np.log(2) / (PEAK * SOFT)))
RESOLUTION = 40
VOXEL = 2.0 / RESOLUTION


class SoftBall:
    """Density PEAK * sigmoid((RADIUS - r) / SOFT); colour a function of place, and a little of direction."""

    def __init__(self, peak=PEAK):
        self.peak = peak

    def height(self, points):
        return (points - torch.from_numpy(CENTRE).float()).norm(dim=-1) - RADIUS

    def density(self, points):
        return self.peak * torch.sigmoid(-self.height(points) / SOFT)

    def colour(self, points, directions):
        inside = (self.height(points).abs() < 2 * VOXEL).float()[
            :, None
        ]  # elsewhere the colour means nothing
        local = points - torch.from_numpy(CENTRE).float()
        return inside * (0.5 + 0.35 * torch.sin(4 * local) + 0.05 * directions)

    def occupied(self, points):
        return self.height(points) < 0.1

    def core_box(self):
        return np.stack([CENTRE - 1, CENTRE + 1])

    def render_view(self, cameras, index, *, background=None, normals=False):
        rays = cameras.image_rays(index)
        width, height = (int(v) for v in cameras.sizes[index])
        middle = (torch.from_numpy(CENTRE) - rays.origins[0].double()).norm().item()
        along = torch.linspace(middle - 0.8, middle + 0.8, 320)
        step = along[1] - along[0]
        points = rays.origins[:, None] + along[None, :, None] * rays.directions[:, None]
        depth = self.density(points.reshape(-1, 3)).reshape(len(points), -1) * step
        total = depth.cumsum(1)
        solid = total[:, -1] >= np.log(2)
        first = (total >= np.log(2)).float().argmax(1)
        rows = torch.arange(len(first))
        share = (np.log(2) - (total[rows, first] - depth[rows, first])) / depth[rows, first].clamp_min(1e-9)
        distance = torch.where(solid, along[first] - step / 2 + share * step, torch.zeros(()))
        colour = self.colour(rays.origins + distance[:, None] * rays.directions, rays.directions)
        return {
            "colour": colour.reshape(height, width, 3),
            "opacity": (1 - torch.exp(-total[:, -1])).reshape(height, width),
            "z_depth_median": (distance * rays.z_per_distance).reshape(height, width),
        }


def true_colour(points):
    """Seen from outside, the direction's share averaged over the cone of `surface_colours` about -normal."""
    local = np.asarray(points) - CENTRE
    normal = local / np.linalg.norm(local, axis=1, keepdims=True)
    return 0.5 + 0.35 * np.sin(4 * local) - 0.05 * normal * (2 + 6 * np.cos(np.radians(30))) / 8


def radius_of(mesh):
    return np.linalg.norm(np.asarray(mesh.vertices) - CENTRE, axis=1)


@pytest.fixture(scope="module")
def cameras():
    return cameras_around(SoftBall().core_box(), 10, 40)


@pytest.fixture(scope="module")
def mesh(cameras):
    return export_mesh(SoftBall(), method="marching-cubes", resolution=RESOLUTION, cameras=cameras)


def test_the_surface_is_where_rays_see_it(mesh):
    assert np.abs(radius_of(mesh) - SEEN_RADIUS).max() < 0.25 * VOXEL
    facts = mesh.metadata["fieldstone"]
    assert facts["watertight"] and facts["components"] == 1 and facts["faces"] == len(mesh.faces)
    assert facts["volume"] == pytest.approx(4 / 3 * np.pi * SEEN_RADIUS**3, rel=0.02)
    json.dumps(facts)
    text = "\n".join(mesh_report(mesh))
    assert "watertight" in text and "level" in text and f"{len(mesh.faces):,} faces" in text


def test_vertex_colours_are_the_fields(cameras):
    mesh = export_mesh(SoftBall(), method="marching-cubes", resolution=RESOLUTION, level=100.0)
    shown = np.asarray(mesh.visual.vertex_colors)[:, :3] / 255
    assert np.abs(shown - true_colour(mesh.vertices)).max() < 0.03


def test_tsdf_gives_the_same_ball(cameras):
    fused = export_mesh(SoftBall(), method="tsdf", resolution=RESOLUTION, cameras=cameras)
    assert fused.metadata["fieldstone"]["watertight"]
    # Oblique rays see a soft surface further out, so its fused mean is not quite the frontal one.
    assert np.abs(radius_of(fused) - SEEN_RADIUS).mean() < 0.25 * VOXEL
    shown = np.asarray(fused.visual.vertex_colors)[:, :3] / 255
    assert np.abs(shown - true_colour(fused.vertices)).mean() < 0.06


@pytest.mark.parametrize("peak", [60.0, 600.0, 6000.0])
def test_the_level_follows_the_density(peak, cameras):
    """A density a hundred times as high needs another level for the same surface."""
    scene = SoftBall(peak)
    choice = choose_level(scene.density, see_surface(scene, cameras, scene.core_box()), VOXEL)
    reached = RADIUS + SOFT * np.log(peak / choice.level - 1)
    seen = RADIUS - SOFT * np.log(np.expm1(np.log(2) / (peak * SOFT)))
    assert reached == pytest.approx(seen, abs=0.25 * VOXEL)
    assert choice.gap < 0.25 * VOXEL


def test_settling_mends_a_wrong_level():
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=1.0)
    wrong = CENTRE + np.array(sphere.vertices) * (SEEN_RADIUS + 1.2 * VOXEL)
    moved = settle(
        SoftBall().density, wrong, np.array(sphere.faces), np.array(sphere.vertices), 2 * VOXEL, 32
    )
    assert np.abs(np.linalg.norm(moved - CENTRE, axis=1) - SEEN_RADIUS).max() < 0.1 * VOXEL
    away = settle(SoftBall().density, wrong + 9, np.array(sphere.faces), np.array(sphere.vertices), 2 * VOXEL)
    np.testing.assert_array_equal(away, wrong + 9)


def test_settling_is_not_drawn_across_a_narrow_gap():
    """Two slabs 1.5 voxels apart: the ray of one slab's top must not start in the other slab."""
    reach = 2 * VOXEL
    density = lambda p: 900.0 * ((p[:, 2] < 0) | (p[:, 2] > 1.5 * VOXEL)).float()  # noqa: E731
    points = np.tile([0.0, 0.0, 0.2 * VOXEL], (3, 1))
    normals = np.tile([0.0, 0.0, 1.0], (3, 1))
    offset = half_transmittance_offsets(density, points, normals, reach, 64)
    np.testing.assert_allclose(offset, -0.2 * VOXEL, atol=0.1 * VOXEL)


def test_colours_are_asked_where_light_stops():
    """A point a voxel in front of the surface still gets the surface's colour, not the void's black."""
    normals = trimesh.creation.icosphere(subdivisions=2).vertices
    points = CENTRE + normals * (SEEN_RADIUS + VOXEL)
    colours = surface_colours(SoftBall(), points, np.array(normals), 2 * VOXEL)
    assert np.abs(colours - true_colour(CENTRE + normals * SEEN_RADIUS)).max() < 0.05
    lone = surface_colours(SoftBall(), points, np.array(normals), 2 * VOXEL, CENTRE[None] + [5.0, 0, 0])
    facing = normals[:, 0] > 0.3
    assert np.abs(lone - colours)[facing].max() > 0.01  # the camera's direction, not the cone's
    np.testing.assert_allclose(lone[normals[:, 0] < 0], colours[normals[:, 0] < 0])


def test_the_baked_texture_gives_the_field_everywhere():
    """Bilinear look-ups at random points of random faces, so also across chart borders."""
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=0.6)
    vertices, faces, normals = (
        np.array(sphere.vertices),
        np.array(sphere.faces),
        np.array(sphere.vertex_normals),
    )
    colour = lambda p, n: 0.5 + 0.4 * np.sin(4 * p)  # noqa: E731
    size = 256
    baked = bake(vertices, faces, normals, colour, size)
    assert 0.3 < baked.coverage < 1
    generator = np.random.default_rng(0)
    weight = generator.dirichlet([0.4, 0.4, 0.4], 20_000)  # many near edges and corners
    face = generator.integers(0, len(faces), len(weight))
    uv = np.einsum("nk,nkc->nc", weight, baked.atlas.uv[baked.atlas.faces[face]])
    points = np.einsum("nk,nkc->nc", weight, vertices[baked.atlas.source[baked.atlas.faces[face]]])
    np.testing.assert_array_equal(baked.atlas.source[baked.atlas.faces], faces)
    x, y = uv[:, 0] * size - 0.5, (1 - uv[:, 1]) * size - 0.5
    j, i = np.floor(x).astype(int), np.floor(y).astype(int)
    u, v = (x - j)[:, None], (y - i)[:, None]
    pick = lambda a, b: baked.image[np.clip(a, 0, size - 1), np.clip(b, 0, size - 1)] / 255.0  # noqa: E731
    found = (pick(i, j) * (1 - u) + pick(i, j + 1) * u) * (1 - v) + (
        pick(i + 1, j) * (1 - u) + pick(i + 1, j + 1) * u
    ) * v
    error = np.abs(found - colour(points, None))
    assert error.max() < 0.05
    assert error.mean() < 0.005


@pytest.mark.parametrize("suffix", ["glb", "ply", "obj", "stl"])
@pytest.mark.parametrize("texture", [False, True])
def test_files_come_back_in_the_source_frame(tmp_path, suffix, texture):
    out = tmp_path / f"my ball.{suffix}"
    mesh = export_mesh(
        SoftBall(), out, method="marching-cubes", resolution=24, level=100.0,
        texture=texture, texture_size=128, target_faces=800,
    )  # fmt: skip
    back = trimesh.load(out, force="mesh", process=False)
    tolerance = 1e-6 if suffix in ("glb", "obj") else 2 * float(np.spacing(np.float32(100)))
    expected = mesh.vertices[mesh.faces.reshape(-1)]
    found = back.vertices[back.faces.reshape(-1)]
    assert np.abs(found - expected).max() < tolerance
    assert np.abs(radius_of(back) - SEEN_RADIUS).max() < 0.02
    kind = {"stl": None, "ply": "vertex"}.get(suffix, "texture" if texture else "vertex")
    assert back.visual.kind == kind
    if kind is not None:
        seen = back.visual.to_color() if kind == "texture" else back.visual
        shown = np.asarray(seen.vertex_colors)[:, :3] / 255
        assert np.abs(shown - true_colour(back.vertices)).mean() < 0.05
    notes = " ".join(mesh.metadata["fieldstone"]["notes"])
    assert ("STL holds no colours" in notes) == (suffix == "stl")
    assert ("PLY holds no texture" in notes) == (suffix == "ply" and texture)
    beside = {path.name for path in tmp_path.iterdir()}
    assert beside == (
        {"my ball.obj", "my_ball.mtl", "my_ball.png"} if suffix == "obj" and texture else {out.name}
    )
    assert len(mesh.faces) <= 800
    assert mesh.metadata["fieldstone"]["watertight"]


def test_bad_requests_are_told_before_any_work(tmp_path):
    class Untouchable:
        def __getattr__(self, name):
            raise AssertionError(f"{name} was asked for")

    with pytest.raises(UserError, match=r"\.glb, \.ply, \.obj, \.stl"):
        export_mesh(Untouchable(), tmp_path / "mesh.fbx")
    with pytest.raises(UserError, match="poisson"):
        export_mesh(Untouchable(), method="poisson")
    with pytest.raises(UserError, match="level"):
        export_mesh(SoftBall(), method="marching-cubes", level="high", resolution=16)
    with pytest.raises(UserError, match=r"level.*marching-cubes"):
        export_mesh(SoftBall(), level=5.0)


def test_an_empty_field_is_said_to_be_empty(tmp_path, cameras):
    out = tmp_path / "none.glb"
    with pytest.raises(UserError, match=r"none of \d+ rendered views"):
        export_mesh(SoftBall(peak=0.1), out, method="marching-cubes", resolution=24, cameras=cameras)
    with pytest.raises(UserError, match=r"no surface at level 5 .*0\.1"):
        export_mesh(SoftBall(peak=0.1), out, method="marching-cubes", resolution=24, level=5.0)
    assert not out.exists()
