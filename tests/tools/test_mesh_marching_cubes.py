"""Sparse marching cubes against scikit-image's dense one and against shapes of known size."""

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree

from fieldstone.core.errors import UserError
from fieldstone.tools.mesh.blocks import BLOCK, Lattice, SparseBlocks, sample_blocks
from fieldstone.tools.mesh.marching_cubes import extract_iso_surface, march

CENTRE = torch.tensor([0.11, -0.07, 0.05])


def ball_and_ring(points):
    """Smooth, positive inside: a ball of radius 0.4 and a ring of radii 0.75 and 0.13 round it."""
    q = points - CENTRE
    ball = 0.4 - q.norm(dim=-1)
    ring = 0.13 - torch.hypot(q[:, :2].norm(dim=-1) - 0.75, q[:, 2])
    return torch.maximum(ball, ring)


BOX = np.array([[-1.03, -1.02, -1.01], [1.07, 1.08, 1.09]])


def closed(vertices, faces):
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    return mesh.is_watertight and mesh.is_winding_consistent


def dense(field, resolution, level):
    from skimage.measure import marching_cubes

    steps = np.arange(resolution + 1)
    voxel = (BOX[1] - BOX[0]).max() / resolution
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3) * voxel + BOX[0]
    volume = field(torch.from_numpy(grid.astype(np.float32))).numpy().reshape([resolution + 1] * 3)
    vertices, faces, _, _ = marching_cubes(volume, level)
    return vertices * voxel + BOX[0], faces


def test_blocks_give_the_vertices_of_the_dense_result():
    """48 cells span two blocks along each axis; scikit-image has seen the whole array."""
    field = lambda p: 1 + ball_and_ring(p)  # noqa: E731
    expected, expected_faces = dense(field, 48, 1.0)
    occupied = lambda p: ball_and_ring(p) > -0.1  # noqa: E731
    for skip in (None, occupied):
        vertices, faces = extract_iso_surface(field, BOX, 48, 1.0, occupied=skip)
        assert len(vertices) == len(expected)
        assert len(faces) == len(expected_faces)
        assert cKDTree(vertices).query(expected)[0].max() < 1e-6
        assert cKDTree(expected).query(vertices)[0].max() < 1e-6
        assert closed(vertices, faces)


def test_skipping_asks_less_and_only_where_occupied():
    asked = []

    def field(points):
        asked.append(points)
        return ball_and_ring(points)

    extract_iso_surface(field, BOX, 64, 0.02, occupied=lambda p: ball_and_ring(p) > -0.05)
    points = torch.cat(asked)
    assert len(points) < 0.3 * 65**3
    assert ball_and_ring(points).min() > -0.05 - 2 * 2.1 / 64 * 3**0.5


def test_faces_point_outward_and_size_is_right():
    radius, voxel = 0.6, 2.1 / 40
    vertices, faces = extract_iso_surface(lambda p: radius - p.norm(dim=-1), BOX, 40, 0.0)
    assert np.abs(np.linalg.norm(vertices, axis=1) - radius).max() < 0.05 * voxel
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.01)
    inward, turned = extract_iso_surface(lambda p: p.norm(dim=-1) - radius, BOX, 40, 0.0, sign=-1)
    np.testing.assert_allclose(inward, vertices, atol=1e-7)
    assert trimesh.Trimesh(inward, turned, process=False).volume > 0


def test_any_values_give_a_closed_oriented_surface():
    """Noise has every one of the 256 cases and every ambiguous face, also across block borders."""
    lattice = Lattice(np.zeros(3), 1.0, (BLOCK + 6, 12, BLOCK + 3))
    blocks = SparseBlocks.allocate(lattice, np.ones(lattice.block_grid(), bool), 0.0)
    blocks.values[:] = np.random.default_rng(0).random(blocks.values.shape)
    for block in range(len(blocks.coordinates)):
        indices = blocks.point_indices(block)
        rim = ((indices <= 0) | (indices >= np.array(lattice.shape) - 1)).any(1)
        blocks.values[block].reshape(-1)[rim] = 0
    surface = march(blocks, 0.5)
    assert len(surface.faces) > 10_000
    assert closed(surface.vertices, surface.faces)
    assert trimesh.Trimesh(surface.vertices, surface.faces, process=False).volume > 0


def test_values_equal_to_the_level_make_no_faces_of_no_size():
    vertices, faces = extract_iso_surface(
        lambda p: (5 - p.abs().amax(dim=-1)).round(), np.array([[-8.0] * 3, [8.0] * 3]), 16, 1.0
    )
    assert closed(vertices, faces)
    assert len(np.unique(vertices, axis=0)) == len(vertices)


def test_unknown_values_open_the_surface_instead_of_inventing_one():
    lattice = Lattice.in_box(BOX, 40)
    blocks = sample_blocks(ball_and_ring, lattice)
    for block in range(len(blocks.coordinates)):
        hidden = lattice.positions(blocks.point_indices(block))[:, 0] > 0.1
        blocks.values[block].reshape(-1)[hidden] = np.nan
    surface = march(blocks, 0.0)
    assert surface.vertices[:, 0].max() <= 0.1 + 1e-9
    assert (
        np.abs(ball_and_ring(torch.from_numpy(surface.vertices.astype(np.float32)))).max()
        < lattice.voxel**2 * 4
    )
    assert not closed(surface.vertices, surface.faces)


def test_a_sheet_thinner_than_a_block_is_kept_when_probes_are_coarse(monkeypatch):
    """With 16 probes along a side of 64 cells, occupancy as thick as a probe step still finds the sheet."""
    import fieldstone.tools.mesh.blocks as module

    monkeypatch.setattr(module, "MOST_PROBES", 16)
    sheet = lambda p: 1.04 - (p[:, 0] - 0.2).abs() - 10 * (p.norm(dim=-1) - 0.8).clamp_min(0)  # noqa: E731
    box = np.array([[-1.0] * 3, [1.0] * 3])
    full = extract_iso_surface(sheet, box, 64, 1.0)
    skipped = extract_iso_surface(sheet, box, 64, 1.0, occupied=lambda p: (p[:, 0] - 0.2).abs() < 0.0626)
    assert np.array_equal(np.unique(full[0], axis=0), np.unique(skipped[0], axis=0))


def test_refinement_reaches_the_level_set_of_a_steep_density():
    """A learned density rises by orders of magnitude in one cell: linear interpolation alone leaves
    stairs.
    """
    density = lambda p: 300 * torch.sigmoid((0.6 - p.norm(dim=-1)) / 0.01)  # noqa: E731
    voxel = 2.1 / 32
    plain, _ = extract_iso_surface(density, BOX, 32, 10.0)
    refined, faces = extract_iso_surface(density, BOX, 32, 10.0, refine=4)
    radius = 0.6 + 0.01 * np.log(300 / 10 - 1)
    assert np.abs(np.linalg.norm(plain, axis=1) - radius).max() > 0.2 * voxel
    assert np.abs(np.linalg.norm(refined, axis=1) - radius).max() < 0.02 * voxel
    assert closed(refined, faces)


def test_not_cubic_boxes_keep_cubic_cells():
    lattice = Lattice.in_box(np.array([[0.0, 0, 0], [2, 1, 0.55]]), 20)
    assert lattice.shape == (21, 11, 7)
    assert lattice.voxel == pytest.approx(0.1)
    assert lattice.origin[2] == pytest.approx(-0.025)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": 5.0}, "highest|run from .* to"),
        ({"level": 0.1, "occupied": lambda p: torch.zeros(len(p), dtype=torch.bool)}, "nothing is occupied"),
        ({"level": 0.1, "resolution": 1}, "resolution 1"),
        ({"level": 0.1, "box": np.zeros((2, 3))}, "box"),
    ],
)
def test_what_cannot_be_meshed_is_said(arguments, message):
    settings = {"density": ball_and_ring, "box": BOX, "resolution": 32} | arguments
    with pytest.raises(UserError, match=message):
        extract_iso_surface(**settings)


def test_a_field_that_is_not_finite_is_refused():
    with pytest.raises(UserError, match="nan at"):
        extract_iso_surface(lambda p: torch.full((len(p),), float("nan")), BOX, 16, 0.1)
