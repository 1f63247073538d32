"""Mesh error against shapes whose distance is known."""

import math

import numpy as np
import pytest
import trimesh

from fieldstone.core.errors import UserError
from fieldstone.tools.mesh.compare import distance_to_points, mesh_error, sample_mesh

CENTRE = np.array([0.3, -0.2, 0.5])


def ball(radius: float) -> trimesh.Trimesh:
    mesh = trimesh.creation.icosphere(subdivisions=5, radius=radius)
    mesh.apply_translation(CENTRE)
    return mesh


def ball_distance(points):
    return np.linalg.norm(points - CENTRE, axis=1) - 1.0


def ball_points(count=4000, seed=0):
    normals = np.random.default_rng(seed).normal(size=(count, 3))
    return CENTRE + normals / np.linalg.norm(normals, axis=1, keepdims=True)


def error_of(mesh, **options):
    return mesh_error(
        mesh, ball_distance, ball_points(), 4.0, np.random.default_rng(1), samples=20_000, **options
    )


def test_the_true_surface_has_no_error():
    error = error_of(ball(1.0))
    assert error.mean_percent < 0.01  # the facets' own sag: 1e-4 of the radius
    assert error.true_points == 4000 and error.mesh_points == 20_000


@pytest.mark.parametrize("radius", [0.97, 1.05])
def test_a_ball_of_another_size_is_off_by_the_difference_both_ways(radius):
    error = error_of(ball(radius))
    gap = abs(radius - 1.0)
    assert error.accuracy == pytest.approx(gap, abs=3e-4)
    assert error.completeness == pytest.approx(gap, abs=3e-4)
    assert error.accuracy_percent == pytest.approx(100 * error.accuracy / 4.0)
    assert error.mean_percent == pytest.approx((error.accuracy_percent + error.completeness_percent) / 2)


def test_a_missing_half_shows_in_completeness_alone():
    half = ball(1.0)
    half.update_faces(half.triangles_center[:, 2] > CENTRE[2])
    error = error_of(half)
    assert error.accuracy < 1e-3
    # Mean over the lower half of the distance to its rim, and nothing over the upper half: the distance at
    # angle a below the rim is 2 sin(a / 2), its area weight cos(a), the integral 4/3 (sqrt 2 - 1).
    assert error.completeness == pytest.approx(0.5 * 4 / 3 * (math.sqrt(2) - 1), rel=0.04)


def test_a_floater_shows_in_accuracy_alone_and_keep_can_leave_it_out():
    floater = trimesh.creation.icosphere(subdivisions=3, radius=0.2)
    floater.apply_translation(CENTRE + np.array([0, 0, 2.5]))
    both = trimesh.util.concatenate([ball(1.0), floater])
    error = error_of(both)
    assert error.completeness < 1e-3
    share = 0.04 / 1.04  # of the area
    assert error.accuracy == pytest.approx(share * 1.5, rel=0.05)
    kept = error_of(both, keep=lambda points, normals: points[:, 2] < CENTRE[2] + 1.5)
    assert kept.accuracy < 1e-3 and kept.mesh_points < error.mesh_points


def test_long_thin_triangles_are_measured_to_their_middle():
    square = trimesh.Trimesh(
        np.array([[-5, -5, 0], [5, -5, 0], [5, 5, 0], [-5, 5, 0]]) / 1.0, [[0, 1, 2], [0, 2, 3]]
    )
    points = np.random.default_rng(0).uniform(-4, 4, (500, 3)) * [1, 1, 0] + [0, 0, 0.25]
    error = mesh_error(square, lambda p: p[:, 2], points, 10.0, np.random.default_rng(0), samples=2000)
    assert error.completeness == pytest.approx(0.25, abs=1e-9)


def test_samples_are_uniform_by_area():
    box = trimesh.creation.box((1.0, 2.0, 4.0))
    points, faces = sample_mesh(box, 10_000, np.random.default_rng(0))
    share = np.bincount(faces, minlength=12) / 10_000
    assert np.abs(share - box.area_faces / box.area).max() < 2e-4
    normals = box.face_normals[faces]
    planes = np.abs(points * normals).sum(1)
    assert np.allclose(planes, np.abs(normals) @ [0.5, 1.0, 2.0], atol=1e-12)
    top = points[normals[:, 2] > 0.5]
    assert np.allclose(top[:, :2].mean(0), 0, atol=0.05)
    assert np.allclose(top[:, :2].var(0), [1 / 12, 4 / 12], rtol=0.1)


def test_a_cloud_can_stand_for_the_truth():
    distance = distance_to_points(ball_points(50_000))
    error = mesh_error(ball(1.1), distance, ball_points(), 4.0, np.random.default_rng(1), samples=5000)
    assert error.accuracy == pytest.approx(0.1, abs=2e-3)


def test_the_same_seed_gives_the_same_numbers():
    assert error_of(ball(1.02)).to_json() == error_of(ball(1.02)).to_json()


def test_bad_input_is_refused():
    with pytest.raises(UserError, match="no surface"):
        error_of(trimesh.Trimesh(np.zeros((3, 3)), [[0, 1, 2]], process=False))
    with pytest.raises(UserError, match="no surface"):
        error_of(trimesh.Trimesh())
    with pytest.raises(UserError, match="another frame"):
        error_of(ball(1.0), keep=lambda points, normals: np.zeros(len(points), bool))
    with pytest.raises(UserError, match="true points"):
        mesh_error(ball(1.0), ball_distance, np.zeros((0, 3)), 4.0, np.random.default_rng(0))
    with pytest.raises(UserError, match="scene size"):
        mesh_error(ball(1.0), ball_distance, ball_points(), 0.0, np.random.default_rng(0))
