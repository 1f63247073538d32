"""What fits are made of, against automatic and numerical derivatives and brute force."""

import numpy as np
import pytest
import torch

from fieldstone.fields.articulated import ArticulatedModel
from fieldstone.render.cameras import Cameras, look_at
from fieldstone.tools.hand.fitting.closest import NearestOnMesh, beyond_opening, boundary_vertices
from fieldstone.tools.hand.fitting.contact import hand_capsules, nearest_on_segments
from fieldstone.tools.hand.fitting.limits import hand_limits
from fieldstone.tools.hand.fitting.pixels import pixel_term, triangulate
from fieldstone.tools.hand.fitting.posing import Posing
from fieldstone.tools.hand.fitting.priors import Smoothness, pose_prior
from fieldstone.tools.hand.fitting.so3 import exp, log, right_jacobian, right_jacobian_inverse
from fieldstone.tools.hand.fitting.terms import Keypoints3d, robust

from .fitting_truth import Truth


def test_rotations_go_there_and_back_also_near_pi():
    generator = np.random.default_rng(0)
    axis = generator.normal(size=(200, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    for angle in (0.0, 1e-9, 1e-4, 0.5, 3.0, np.pi - 1e-7):
        assert np.abs(log(exp(axis * angle)) - axis * angle).max() < 1e-7
        assert np.abs(exp(log(exp(axis * angle))) - exp(axis * angle)).max() < 1e-12
    v, d = axis * 1.3, generator.normal(size=(200, 3)) * 1e-6
    step = log(exp(v).swapaxes(1, 2) @ exp(v + d))
    assert np.abs(step - (right_jacobian(v) @ d[..., None])[..., 0]).max() < 1e-11
    assert np.abs(right_jacobian(v) @ right_jacobian_inverse(v) - np.eye(3)).max() < 1e-12


def test_posing_is_the_model_and_its_jacobian_the_automatic_one():
    truth = Truth(3)
    weights = truth.data.weights / truth.data.weights.sum(
        1, keepdims=True
    )  # the file's sum to 1 in float32 only
    data, state = truth.data.replace(weights=weights), truth.state
    chosen = np.array([0, 300, 700, 1200, 1580])
    posing = Posing(data, chosen, 10)
    moved = posing(state.shape, state.rotations(), state.translation)
    model = ArticulatedModel(data, dtype=torch.float64)
    rotations = torch.from_numpy(state.rotations())
    shape = torch.from_numpy(state.shape)

    def points(shape, turns):
        matrices = rotations @ torch.linalg.matrix_exp(_skew(turns))
        posed = model(shape, matrices, torch.from_numpy(state.translation), pose_format="matrix")
        return torch.cat((posed.vertices[0, chosen], posed.joints[0]))

    zero = torch.zeros(1, 16, 3, dtype=torch.float64)
    assert np.abs(points(shape, zero).numpy() - moved.points[0]).max() < 1e-12
    by_shape, by_turns = torch.autograd.functional.jacobian(points, (shape, zero))
    assert np.abs(by_shape.numpy() - moved.by_shape[0]).max() < 1e-10
    assert np.abs(by_turns[:, :, 0].numpy() - moved.by_rotation[0]).max() < 1e-10


def _skew(v):
    zero = torch.zeros_like(v[..., 0])
    rows = (zero, -v[..., 2], v[..., 1], v[..., 2], zero, -v[..., 0], -v[..., 1], v[..., 0], zero)
    return torch.stack(rows, -1).reshape(*v.shape[:-1], 3, 3)


@pytest.mark.parametrize("kind", ["points", "pixels", "limits", "capsules"])
def test_residuals_change_as_their_jacobian_says(kind):
    truth = Truth(5)
    data, state = truth.data, truth.state
    posing = Posing(data, truth.keypoints.vertices, 10)
    if kind == "points":
        term = Keypoints3d(targets=truth.points() + 0.01, mixture=truth.keypoints.mixture)
    elif kind == "pixels":
        term = _pixel_term(truth, truth.points())[0]
    else:
        # fists far beyond what joints do and fingers have room for, so that both terms have something to say
        state = type(state)(state.shape, state.root, state.angles * 0 + [0.05, 0.1, 2.2], state.translation)
        extra = hand_limits(data) if kind == "limits" else hand_capsules(data, posing)

    def residuals(state, jacobian=False):
        moved = posing(state.shape, state.rotations(), state.translation, jacobian)
        parts = state.jacobian(moved) if jacobian else (None, None)
        if kind in ("points", "pixels"):
            found = term.linearise(moved.points, *parts)
            return found.residuals, found.by_shape, found.by_frame
        return extra(state, moved.points, *parts)

    value, by_shape, by_frame = residuals(state, True)
    assert np.abs(value).max() > 0
    generator = np.random.default_rng(1)
    shape, frame = generator.normal(size=10) * 1e-6, generator.normal(size=(1, 51)) * 1e-6
    ahead, behind = residuals(state.moved(shape, frame))[0], residuals(state.moved(-shape, -frame))[0]
    expected = by_shape @ shape + by_frame @ frame[0]
    assert np.abs((ahead - behind) / 2 - expected).max() < 1e-5 * np.abs(expected).max() + 1e-12


def test_smoothness_changes_as_its_jacobian_says_and_rests_on_constant_speed():
    truth = Truth(6, frames=4)
    smooth = Smoothness(0.1, 0.01)
    generator = np.random.default_rng(0)
    step = generator.normal(size=(4, 51)) * 1e-6
    ahead, behind = (smooth.residuals(truth.state.moved(0, sign * step)) for sign in (1, -1))
    parts = smooth.jacobians(truth.state)
    expected = sum(np.einsum("tij,tj->ti", part, step[i : i + 2]) for i, part in enumerate(parts))
    assert np.abs((ahead - behind) / 2 - expected).max() < 1e-6 * np.abs(expected).max() + 1e-9
    turn, way = np.array([0.1, 0.2, -0.1]), np.arange(4.0)[:, None]
    steady = type(truth.state)(
        truth.state.shape, exp(way * turn), np.tile(truth.state.angles[:1], (4, 1, 1)), way * [0.1, 0, 0]
    )
    assert np.abs(smooth.residuals(steady)).max() < 1e-9


def test_robust_weight_is_the_slope_of_its_cost():
    squares = np.linspace(0, 50, 11)
    cost, weight = robust(squares, 3.0)
    slope = (robust(squares + 1e-6, 3.0)[0] - cost) / 1e-6
    assert np.abs(slope - weight).max() < 1e-5 and cost.max() < 9


def test_pose_prior_knows_what_varied():
    data = Truth().data
    prior = pose_prior(data)
    sample = data.pose_mean + data.pose_coefficients @ data.pose_components
    distance = np.linalg.norm((sample - prior.mean) @ prior.root.T, axis=1)
    other = np.linalg.norm((sample[:, ::-1] - prior.mean) @ prior.root.T, axis=1)
    assert np.median(distance) < 7 and np.median(other) > 3 * np.median(distance)


def test_nearest_points_are_those_of_a_full_search():
    from fieldstone.tools.hand.fitting.closest import nearest_on_triangles

    truth = Truth(1)
    vertices, faces = truth.vertices()[0], truth.data.faces
    queries = vertices[::97] + truth.generator.normal(0, 0.01, vertices[::97].shape)
    _, _, distance = NearestOnMesh(faces, len(vertices), around=6)(vertices, queries)
    for query, found in zip(queries, distance):
        weights = nearest_on_triangles(vertices[faces], np.tile(query, (len(faces), 1)))
        every = np.linalg.norm((weights[:, :, None] * vertices[faces]).sum(1) - query, axis=1)
        assert abs(every.min() - found) < 1e-9


def test_segments_are_nearest_where_a_fine_search_says():
    generator = np.random.default_rng(0)
    ends = generator.normal(size=(4, 30, 3))
    s, t = nearest_on_segments(*ends)
    share = np.linspace(0, 1, 201)[:, None]
    for i in range(30):
        a, b = (ends[k, i] + share * (ends[k + 1, i] - ends[k, i]) for k in (0, 2))
        every = np.linalg.norm(a[:, None] - b[None], axis=-1).min()
        p = ends[0, i] + s[i] * (ends[1, i] - ends[0, i]) - ends[2, i] - t[i] * (ends[3, i] - ends[2, i])
        assert np.linalg.norm(p) < every + 1e-9


def test_an_arm_lies_past_the_wrist_and_fingers_do_not():
    data = Truth().data
    edge = boundary_vertices(data.faces)
    assert not beyond_opening(data.template, edge, data.template[data.fingertips]).any()
    wrist, middle = data.template[edge].mean(0), data.template.mean(0)
    arm = wrist + np.linspace(0.01, 0.2, 20)[:, None] * (wrist - middle) / np.linalg.norm(wrist - middle)
    assert beyond_opening(data.template, edge, arm).all()


def _pixel_term(truth, points):
    centre = points[0].mean(0)
    places = centre + np.array([[0.5, 0.1, 0], [0, -0.2, 0.5], [-0.4, 0.2, 0.3]])
    poses = torch.stack([torch.as_tensor(look_at(p, centre, np.array([0.0, 1.0, 0.0]))) for p in places])
    cameras = Cameras.pinhole(poses, 700.0, 512, 512)
    pixels = np.stack(
        [cameras.project(torch.from_numpy(points[0]), torch.tensor([v]))[0].numpy() for v in range(3)]
    )[None]
    return pixel_term(cameras, truth.keypoints.mixture, pixels + 3.0), cameras, pixels


def test_rays_meet_where_the_point_was_though_one_view_is_wrong():
    truth = Truth(2)
    points = truth.points()
    _, cameras, pixels = _pixel_term(truth, points)
    pixels[0, 1, 4] += 200
    pixels[0, 2, 7] = np.nan
    found = triangulate(pixel_term(cameras, truth.keypoints.mixture, pixels))
    good = np.arange(21) != 4
    assert np.abs(found[0, good] - points[0, good]).max() < 1e-6


def test_every_turn_is_within_45_degrees_of_a_direction():
    from fieldstone.tools.hand.fitting.starts import directions

    turns = np.array(directions())
    assert turns.shape == (72, 3, 3) and np.allclose(np.linalg.det(turns), 1)
    random = exp(np.random.default_rng(0).normal(0, 2, (500, 3)))
    cosine = (np.einsum("nij,mij->nm", random, turns).max(1) - 1) / 2
    assert np.degrees(np.arccos(cosine)).max() < 45


def test_what_the_camera_saw_through_is_drawn_back():
    from scipy.spatial import cKDTree

    from fieldstone.tools.hand.fitting.free_space import drawn_back

    x, y = (part.reshape(-1) for part in np.meshgrid(*2 * [np.linspace(-0.05, 0.05, 41)]))
    wall, eye = np.stack((x, y, np.full(len(x), 0.5)), 1), np.zeros(3)
    vertices = np.array([[0.01, 0, 0.4], [0.08, 0, 0.5], [0, 0, 0.6]])
    tree = cKDTree(wall / np.linalg.norm(wall, axis=1, keepdims=True))
    found = drawn_back(wall, tree, eye, vertices, np.array([True, True, False]))
    assert list(found.vertices) == [0, 1]
    offset = found.targets - vertices[:2]
    pull = (found.metric @ offset[..., None])[..., 0]
    assert abs(pull[0, 2] - 0.1) < 2e-3  # before the wall: back onto it
    assert (
        pull[1, 0] < -0.025 and np.abs(pull[1] @ found.targets[1]) < 1e-12
    )  # beside it: across the ray, depth left open


def test_the_truth_scores_best():
    from fieldstone.tools.hand.fitting.misfit import surface_score
    from fieldstone.tools.hand.fitting.scan import Scan

    truth = Truth(7)
    vertices, faces = truth.vertices()[0], truth.data.faces
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    scan = Scan(corners.mean(1), normals / np.linalg.norm(normals, axis=1, keepdims=True))
    inside_out = Scan(scan.points, -scan.normals)
    right = surface_score(truth.data, vertices, scan)
    assert right < surface_score(truth.data, vertices + np.array([0.01, 0, 0]), scan) - 2e-3
    assert surface_score(truth.data, vertices, inside_out) > right + 0.02


def test_hands_in_one_another_are_as_deep_as_they_were_pushed():
    """A straight index finger laid across another hand's palm, lowered into it by steps."""
    from dataclasses import replace

    from fieldstone.tools.hand.fitting.two_hands import penetration

    truth = Truth(0)
    data, joints = truth.data, truth.data.joints
    flat = replace(
        truth.state,
        shape=np.zeros(10), root=np.eye(3)[None], angles=np.zeros((1, 15, 3)), translation=np.zeros((1, 3)),
    )  # fmt: skip
    palm = data.template[data.weights[:, 0] > 0.9]
    centre = joints[[4, 10]].mean(0) / 2  # half way from the wrist to the knuckles
    top = palm[np.linalg.norm((palm - centre)[:, [0, 2]], axis=1) < 0.008][:, 1].max()
    finger = data.template[data.weights[:, 2] > 0.9]  # the middle bone of the index finger
    lowest, middle = finger[:, 1].min(), finger.mean(0)
    found = []
    for depth in (-0.01, 0.003, 0.006):
        move = np.array([centre[0] - middle[0], top - lowest - depth, centre[2] - middle[2]])
        found.append(penetration(((data, flat), (data, replace(flat, translation=move[None])))))
    assert found[0] is None or found[0].depth < found[1].depth
    assert abs((found[2].depth - found[1].depth) - 0.003) < 0.0015
    assert "mm inside right" in str(found[2])
