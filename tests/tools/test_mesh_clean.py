"""Cleaning, hole filling, decimation, each on a mesh with one known defect."""

import numpy as np
import pytest
import trimesh

from fieldstone.core.errors import UserError
from fieldstone.tools.mesh.clean import compact, drop_degenerate, keep_components
from fieldstone.tools.mesh.decimate import decimate, transfer
from fieldstone.tools.mesh.holes import boundary_loops, fill_holes
from fieldstone.tools.mesh.report import describe


def sphere(radius=1.0, centre=(0, 0, 0), subdivisions=3):
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return np.array(mesh.vertices) + centre, np.array(mesh.faces)


def join(*parts):
    offset = np.cumsum([0] + [len(v) for v, _ in parts[:-1]])
    return np.concatenate([v for v, _ in parts]), np.concatenate([f + o for (_, f), o in zip(parts, offset)])


def test_floaters_go_and_large_parts_stay():
    vertices, faces = join(
        sphere(), sphere(0.8, (4, 0, 0)), sphere(0.03, (2, 2, 0), 1), sphere(0.02, (0, 2, 2), 1)
    )
    kept, floaters, voids = keep_components(vertices, faces)
    assert (floaters, voids) == (2, 0)
    assert describe(*compact(vertices, kept))["components"] == 2
    only, dropped, _ = keep_components(vertices, faces, keep=1)
    assert dropped == 3
    assert np.abs(np.linalg.norm(vertices[only].reshape(-1, 3), axis=1) - 1).max() < 1e-9
    with pytest.raises(UserError, match="keep_components"):
        keep_components(vertices, faces, keep=-1)


def test_voids_go_unless_they_were_seen_from_within():
    vertices, faces = sphere(0.5)
    vertices, faces = join(sphere(), (vertices, faces[:, ::-1]))
    outside, inside = np.array([[3.0, 0, 0]]), np.array([[0.1, 0, 0]])
    assert keep_components(vertices, faces, voids_without=outside)[2] == 1
    assert keep_components(vertices, faces, voids_without=inside)[2] == 0
    assert keep_components(vertices, faces)[2] == 0
    solid = join(sphere(), sphere(0.5))
    assert keep_components(*solid, voids_without=outside)[2] == 0


def test_degenerate_and_repeated_faces_go_without_opening_a_hole():
    vertices, faces = sphere(subdivisions=2)
    a, b, _ = faces[0]
    twin = len(
        vertices
    )  # corner a of face 0 gets a twin in the same place, and a face of no size between them
    vertices = np.concatenate([vertices, vertices[a : a + 1]])
    faces = np.concatenate([faces, [[a, twin, b], faces[5], [3, 3, 4]]])
    faces[0] = np.where(faces[0] == a, twin, faces[0])
    clean = drop_degenerate(vertices, faces)
    assert describe(*compact(vertices, clean))["watertight"]
    assert len(clean) == 320


@pytest.mark.parametrize("removed", [1, 4, 12])
def test_small_holes_are_closed(removed):
    vertices, faces = sphere()
    order = np.argsort(vertices[faces].mean(1)[:, 2])
    punctured = faces[np.sort(order[:-removed])]
    assert not describe(vertices, punctured)["watertight"]
    rims = boundary_loops(punctured)
    assert sum(len(rim) for rim in rims) >= 3
    filled_vertices, filled, closed = fill_holes(vertices, punctured, longest=3.0)
    facts = describe(*compact(filled_vertices, filled))
    assert closed == len(rims)
    assert facts["watertight"]
    assert facts["volume"] == pytest.approx(describe(vertices, faces)["volume"], rel=0.02)
    assert fill_holes(vertices, punctured, longest=0.01)[2] == 0


def test_touching_holes_are_told_apart():
    vertices, faces = sphere()
    corner = 20
    around = np.flatnonzero((faces == corner).any(1))
    second = next(f for f in around if len(set(faces[f]) & set(faces[around[0]])) == 1)
    keep = np.setdiff1d(np.arange(len(faces)), [around[0], second])
    filled_vertices, filled, closed = fill_holes(vertices, faces[keep], longest=3.0)
    assert closed == 2
    assert describe(filled_vertices, filled)["watertight"]


def test_decimation_keeps_the_shape_far_from_the_origin():
    centre = np.array([5000.0, -300.0, 40.0])
    vertices, faces = sphere(0.01, centre, 5)
    fewer_vertices, fewer = decimate(vertices, faces, 2000)
    assert len(fewer) <= 2000
    error = np.abs(np.linalg.norm(fewer_vertices - centre, axis=1) - 0.01)
    assert error.max() < 0.01 * 0.01
    assert describe(fewer_vertices, fewer)["watertight"]
    same = decimate(vertices, faces, 10**6)
    assert same[1] is faces
    colours = transfer(vertices - centre, vertices, fewer_vertices)
    assert np.abs(colours - (fewer_vertices - centre)).max() < 0.05 * 0.01
    with pytest.raises(UserError, match="at least 4"):
        decimate(vertices, faces, 0)


def test_decimation_keeps_open_borders():
    vertices, faces = sphere(subdivisions=4)
    half = faces[(vertices[faces][:, :, 2] > -1e-9).all(1)]
    vertices, half = compact(vertices, half)
    rim = np.unique(np.concatenate(boundary_loops(half)))
    fewer_vertices, fewer = decimate(vertices, half, len(half) // 4)
    new_rim = np.unique(np.concatenate(boundary_loops(fewer)))
    assert len(fewer) < 0.4 * len(half)
    np.testing.assert_allclose(
        np.sort(np.round(vertices[rim], 6), 0), np.sort(np.round(fewer_vertices[new_rim], 6), 0), atol=1e-5
    )


def test_the_report_tells_open_from_closed():
    vertices, faces = sphere()
    facts = describe(vertices, faces)
    assert facts["watertight"] and facts["components"] == 1
    assert facts["area"] == pytest.approx(4 * np.pi, rel=0.02)
    assert describe(vertices, faces[1:])["watertight"] is False
    assert describe(vertices, faces[1:])["volume"] is None
    turned = faces.copy()
    turned[0] = turned[0, ::-1]
    assert describe(vertices, turned)["watertight"] is False
