"""Caps, subdivision, parts, signed distance, the deformer."""

import numpy as np
import pytest
import torch

from fieldstone.fields.articulated import ArticulatedModel
from fieldstone.fields.articulated.built_in import built_in
from fieldstone.fields.articulated.deformer import Deformer
from fieldstone.fields.articulated.geometry import (
    boundary_loops,
    cap,
    mesh_volume,
    part_labels,
    subdivide,
    unique_edges,
)
from fieldstone.fields.articulated.signed_distance import NEAREST, nearest, signed_distance


@pytest.fixture(scope="module")
def hand():
    return built_in("hand")


@pytest.mark.parametrize("name", ["hand", "hand-left"])
def test_capping_closes_both_hands_and_moves_no_joint(name):
    data = built_in(name)
    assert len(boundary_loops(data.faces)) == 1
    closed = cap(data)
    assert not boundary_loops(closed.faces)
    assert 2e-4 < mesh_volume(closed.template, closed.faces) < 6e-4  # an adult's hand, m3, outward faces
    assert np.array_equal(closed.faces[: len(data.faces)], data.faces)
    assert np.allclose(closed.joints, data.joints, atol=1e-15)
    v, e, f = len(closed.template), len(unique_edges(closed.faces)), len(closed.faces)
    assert v - e + f == 2
    assert np.abs(closed.weights.sum(1) - 1).max() < 1e-12
    assert cap(closed) is closed


@pytest.mark.parametrize("rule", ["midpoint", "loop"])
def test_subdivision_carries_everything(hand, rule):
    fine = subdivide(hand, rule=rule)
    assert len(fine.faces) == 4 * len(hand.faces)
    assert len(fine.template) == len(hand.template) + len(unique_edges(hand.faces))
    assert fine.weights.min() >= 0 and np.abs(fine.weights.sum(1) - 1).max() < 1e-12
    shape = np.random.default_rng(0).normal(0, 1, 10)
    coarse_joints = hand.joint_regressor @ (hand.template + hand.shape_basis @ shape)
    assert (
        np.abs(fine.joint_regressor @ (fine.template + fine.shape_basis @ shape) - coarse_joints).max() < 1e-9
    )
    if rule == "midpoint":
        a, b = (ArticulatedModel(d, dtype=torch.float64) for d in (hand, fine))
        pose = torch.from_numpy(np.random.default_rng(1).normal(0, 0.3, (16, 3)))
        old = b(pose=pose).vertices[0, : len(hand.template)]
        assert torch.allclose(old, a(pose=pose).vertices[0], atol=1e-12)


def test_loop_subdivision_of_a_tetrahedron_by_hand():
    from fieldstone.fields.articulated.geometry import _loop_matrix

    faces = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    matrix = _loop_matrix(faces, unique_edges(faces), 4).toarray()
    beta = (0.625 - (0.375 + 0.25 * np.cos(2 * np.pi / 3)) ** 2) / 3
    assert np.allclose(matrix[0], [1 - 3 * beta, beta, beta, beta])
    assert np.allclose(matrix[4], [0.375, 0.375, 0.125, 0.125])


def test_parts_lie_where_their_joints_are(hand):
    vertices, faces = part_labels(hand)
    assert set(vertices) == set(range(16)) and len(faces) == len(hand.faces)
    for finger, tip in zip(("thumb", "index", "middle", "ring", "pinky"), hand.fingertips):
        assert hand.joint_names[vertices[tip]] == f"{finger}3"


def box():
    corners = torch.tensor(
        [[x, y, z] for x in (-1, 1) for y in (-2, 2) for z in (-3, 3)], dtype=torch.float64
    )
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]
    return corners, torch.tensor(faces)


def box_distance(p):
    q = p.abs() - torch.tensor([1.0, 2.0, 3.0], dtype=p.dtype)
    return q.clamp_min(0).norm(dim=1) + q.amax(1).clamp_max(0)


@pytest.mark.parametrize("backend", NEAREST.names())
def test_signed_distance_of_a_box(backend):
    points = torch.randn(400, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2.5
    vertices, faces = box()
    assert torch.allclose(
        signed_distance(points, vertices, faces, backend=backend), box_distance(points), atol=1e-12
    )


def test_nearest_back_ends_agree_on_a_hand(hand):
    closed = cap(hand)
    vertices, faces = torch.from_numpy(closed.template), torch.from_numpy(closed.faces)
    points = vertices[::9] + 0.01 * torch.randn(
        len(vertices[::9]), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    a, b = (nearest(points, vertices, faces, backend=name) for name in ("cpu", "reference"))
    place = [(f.barycentric[..., None] * vertices[faces[f.face]]).sum(1) for f in (a, b)]
    assert torch.allclose((points - place[0]).norm(dim=1), (points - place[1]).norm(dim=1), atol=1e-12)
    assert torch.allclose(a.winding, b.winding, atol=1e-9)


def test_signed_distance_gradient():
    vertices, faces = box()
    points = torch.tensor([[0.3, -0.2, 3.7], [0.9, 0.1, 0.4], [2.0, 3.0, 4.0]], dtype=torch.float64)
    points.requires_grad_()
    moving = vertices.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda p, v: signed_distance(p, v, faces), (points, moving), atol=1e-6)


@pytest.fixture(scope="module")
def bent(hand):
    model = ArticulatedModel(hand)
    pose = torch.zeros(16, 3)
    pose[[1, 2, 4, 5], 2] = 0.7
    posed = model(pose=pose)
    deformer = Deformer(model.template, model.weights)
    space = deformer.pose(
        posed.rest_vertices[0],
        posed.skinning[0],
        low=torch.tensor([-0.25, -0.15, -0.12]),
        side=0.3,
        resolution=96,
    )
    return model, posed, deformer, space


def test_posed_surface_goes_back_to_the_rest_surface(bent):
    model, posed, _, space = bent
    back, _, near = space.to_canonical(posed.vertices[0])
    assert near.all()
    assert (back - model.template).norm(dim=1).max() < 1e-3
    faces = model.faces
    middle = posed.vertices[0][faces].mean(1)
    back, _, _ = space.to_canonical(middle)
    assert (back - model.template[faces].mean(1)).norm(dim=1).quantile(0.99) < 1.5e-3


def test_there_and_back_again(bent):
    model, posed, deformer, space = bent
    rigid = model.weights.max(1).values > 0.999
    points = posed.vertices[0][rigid] + 0.002
    back, turn, near = space.to_canonical(points)
    again = deformer.to_posed(back[near], posed.skinning[0])
    assert near.float().mean() > 0.9
    assert (again - points[near]).norm(dim=1).median() < 5e-4
    assert torch.allclose(turn @ turn.mT, torch.eye(3).expand_as(turn), atol=0.3)


def test_jacobian_is_the_derivative(bent):
    _, posed, _, space = bent
    points = (posed.vertices[0][::40] + 0.0013).double()
    exact = type(space)(
        space.vertices.double(),
        space.inverse.double(),
        space.cell,
        space.candidates,
        space.origin,
        space.side,
    )
    jacobian = exact.jacobian(points)
    step = 1e-7
    for axis in range(3):
        move = torch.zeros(3, dtype=torch.float64)
        move[axis] = step
        slope = (exact.to_canonical(points + move)[0] - exact.to_canonical(points - move)[0]) / (2 * step)
        assert (slope - jacobian[..., axis]).norm(dim=1).median() < 1e-5


def test_points_far_away_stay(bent):
    _, _, _, space = bent
    far = torch.tensor([[5.0, 5.0, 5.0], [-0.249, 0.149, 0.17]])
    back, _, near = space.to_canonical(far)
    assert not near.any() and torch.equal(back, far)
