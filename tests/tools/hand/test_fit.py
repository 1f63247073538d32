"""Fits of every kind of data come near a known truth, and say what they do not know."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fieldstone.core.errors import UserError
from fieldstone.render.cameras import Cameras, look_at
from fieldstone.render.rasterise import fragments
from fieldstone.tools.hand.fitting.fit import Settings, fit_keypoints
from fieldstone.tools.hand.fitting.handedness import handedness, mirrored
from fieldstone.tools.hand.fitting.observation_fit import fit_observation
from fieldstone.tools.hand.fitting.pixels import fit_pixels
from fieldstone.tools.hand.fitting.posing import Posing
from fieldstone.tools.hand.fitting.scan import Scan, fit_scans
from fieldstone.tools.hand.fitting.silhouette import fit_silhouettes
from fieldstone.tools.hand.fitting.terms import normal_moments, robust
from fieldstone.tools.hand.observed.observation import Observation
from fieldstone.tools.hand.observed.surface_file import depth_scan

from .fitting_truth import Truth


@pytest.mark.parametrize("seed", range(4))
def test_exact_keypoints_are_met(seed):
    truth = Truth(seed)
    fit = fit_keypoints(truth.data, truth.keypoints, truth.points())
    assert np.linalg.norm(truth.points(fit.state) - truth.points(), axis=-1).max() < 1e-4
    assert truth.apart_mm(fit.state) < 0.4  # turns about straight fingers are the prior's guess
    assert fit.inliers.all() and fit.sigma < 1e-5


def test_noise_and_a_fifth_of_outliers():
    errors = []
    for seed in range(8):
        truth = Truth(seed + 20)
        fit = fit_keypoints(truth.data, truth.keypoints, truth.noisy(0.002, 4))
        errors.append(truth.apart_mm(fit.state))
    assert np.mean(errors) < 3.0
    assert 0.001 < fit.sigma < 0.004


def test_what_was_not_seen_is_named():
    truth = Truth(4)
    points = truth.noisy(0.0005)
    points[:, 5:9] = np.nan
    fit = fit_keypoints(truth.data, truth.keypoints, points)
    unseen = fit.observability.unseen(0)
    assert {"index1 x", "index1 y", "index1 z", "index3 z"} <= set(unseen)
    assert not {"wrist x", "wrist y", "wrist z", "middle1 z", "translation x", "thumb2 z"} & set(unseen)
    assert any(line.startswith("not seen") and "index1 xyz" in line for line in fit.report())


def keypoint_variance(truth, fit, matrix):
    """(b, 21, 3) variances of keypoints for a matrix (b, k, k) of shape and frame steps."""
    state, posing = fit.state, Posing(truth.data, truth.keypoints.vertices, len(fit.state.shape))
    parts = state.jacobian(posing(state.shape, state.rotations(), state.translation))
    by_step = np.einsum("mn,bndk->bmdk", truth.keypoints.mixture, np.concatenate(parts, -1))
    return np.einsum("bmdk,bkl,bmdl->bmd", by_step, matrix, by_step)


@pytest.mark.parametrize("settings", [{"sigma": 0.002, "robust": np.inf}, {}])
def test_covariance_is_the_scatter(settings):
    """One hand under fresh noise 120 times: keypoints scatter as told, and miss the truth by as much as the covariance says. Angles that the
    priors decide stay where the priors hold them: the covariance doubts them, their scatter is small."""
    truth, draws = Truth(3), 120
    one = truth.state
    truth.state = replace(
        one, **{key: np.repeat(getattr(one, key), draws, 0) for key in ("root", "angles", "translation")}
    )
    fit = fit_keypoints(
        truth.data, truth.keypoints, truth.noisy(0.002), Settings(shape=one.shape, **settings)
    )
    assert 0.0018 < fit.sigma < 0.0022
    known, points = fit.observability, truth.points(fit.state)
    ratio = points.std(0, ddof=1) / np.sqrt(keypoint_variance(truth, fit, known.scatter).mean(0))
    assert 0.92 < np.median(ratio) < 1.1 and 0.7 < ratio.min() and ratio.max() < 1.4, ratio
    missed = np.sqrt(
        ((points - truth.points()) ** 2).mean(0) / keypoint_variance(truth, fit, known.covariance).mean(0)
    )
    assert 0.85 < np.median(missed) < 1.15 and missed.max() < 1.5, missed
    turns = slice(len(one.shape) + 3, -3)
    told, own = (np.diagonal(part.mean(0))[turns] for part in (known.covariance, known.scatter))
    angles = fit.state.angles.reshape(draws, -1).std(0, ddof=1)
    assert 0.9 < np.median(angles / np.sqrt(own)) < 1.15
    held = known.share.mean(0)[turns] > 0.9
    assert held.sum() > 5 and (angles[held] < 0.5 * np.sqrt(told[held])).all()


def test_robust_weights_tell_as_much_of_normal_noise_as_they_should():
    """Moments by quadrature against a million draws; the median of weighted means against their variance."""
    draws = np.random.default_rng(0).normal(size=(1_000_000, 3))
    squares = (draws**2).sum(1)
    for scale in (2.5, 6.0):
        weight = robust(squares, scale)[1]
        found = normal_moments(scale, 3)
        assert abs(found.weight - weight.mean()) < 2e-3
        assert abs(found.variance - (weight * squares).mean() / 3 / weight.mean()) < 4e-3
        assert abs(found.push - (weight**2 * squares).mean() / 3 / weight.mean()) < 4e-3
        step = 1e-3  # E[psi'] from the shift of psi under a shifted mean
        moved = draws + np.array([step, 0, 0])
        rise = (robust((moved**2).sum(1), scale)[1] * moved[:, 0] - weight * draws[:, 0]).mean() / step
        assert abs(found.stiffness - rise / weight.mean()) < 4e-3
    assert normal_moments(np.inf, 3) == (1, 1, 1, 1)


def test_a_sequence_is_one_person_and_smoothing_helps():
    from scipy.interpolate import CubicSpline

    truth = Truth(9, frames=4)
    at = np.linspace(0, 3, 24)
    angles = CubicSpline(np.arange(4), truth.state.angles)(at)
    state = type(truth.state)(
        truth.state.shape, np.tile(truth.state.root[:1], (24, 1, 1)), angles, np.zeros((24, 3))
    )
    truth.state = state
    seen = truth.noisy(0.003)
    seen[11] = np.nan  # a frame that nobody saw
    smooth = fit_keypoints(truth.data, truth.keypoints, seen, Settings(smooth_angle=0.05))
    rough = fit_keypoints(truth.data, truth.keypoints, np.delete(seen, 11, 0))
    assert smooth.state.shape.shape == (10,) and len(smooth.state) == 24
    bent = np.linalg.norm(truth.points(smooth.state) - truth.points(), axis=-1).mean(1) * 1e3
    apart = np.linalg.norm(np.delete(truth.points(), 11, 0) - truth.points(rough.state), axis=-1).mean() * 1e3
    assert np.delete(bent, 11).mean() < apart and bent[11] < 15


def test_mirrored_hands_are_called_out_and_right_ones_are_not():
    for seed in (30, 31, 32):
        truth = Truth(seed)
        seen = truth.noisy(0.002, 2)
        assert not handedness(truth.data, keypoints=truth.keypoints, points=seen).wrong
        assert handedness(truth.data, keypoints=truth.keypoints, points=mirrored(seen)).wrong


def cameras_round(centre, count, size):
    poses = []
    for k in range(count):
        a = 2 * np.pi * k / count + 0.3
        place = centre + 0.5 * np.array([np.cos(a), 0.45 * (-1) ** k, np.sin(a)])
        poses.append(torch.as_tensor(look_at(place, centre, np.array([0.0, 1.0, 0.0]))))
    return Cameras.pinhole(torch.stack(poses), 1.6 * size, size, size)


def projected(points, cameras):
    views = [
        cameras.project(torch.from_numpy(points), torch.tensor([v]))[0].numpy() for v in range(len(cameras))
    ]
    return np.stack(views)[None]


def test_pixels_of_three_views_and_of_one():
    truth = Truth(12)
    cameras = cameras_round(truth.points()[0].mean(0), 3, 512)
    pixels = projected(truth.points()[0], cameras) + truth.generator.normal(0, 0.7, (1, 3, 21, 2))
    pixels[0, 1, 8] += 150
    fit = fit_pixels(truth.data, truth.keypoints, cameras, pixels)
    assert truth.apart_mm(fit.state) < 3 and not fit.inliers[0, 21 + 8]
    one = fit_pixels(
        truth.data, truth.keypoints, cameras[0], pixels[:, :1], Settings(shape=truth.state.shape)
    )
    again = projected(truth.points(one.state)[0], cameras[0])
    assert (
        np.linalg.norm(again - pixels[:, :1], axis=-1).mean() < 3
    )  # what the view saw is met; depth is a guess


def surface_scan(truth):
    vertices, faces = truth.vertices()[0], truth.data.faces
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return Scan(corners.mean(1), normals / np.linalg.norm(normals, axis=1, keepdims=True))


def depth_image(truth, size):
    vertices = truth.vertices()[0]
    camera = cameras_round(vertices.mean(0), 1, size)
    found = fragments(torch.from_numpy(vertices), torch.from_numpy(truth.data.faces), camera)
    z = np.where(found.mask[..., 0].numpy(), found.z_depth[..., 0].numpy(), 0.0).astype(np.float64)
    return depth_scan(z, camera, "depth")


def test_scan_from_nothing():
    truth = Truth(13)
    fit = fit_scans(truth.data, [surface_scan(truth)], count=900, rng=np.random.default_rng(0))
    assert truth.apart_mm(fit.state) < 2 and np.nanmean(fit.distances) < 1e-3
    assert not any("ambiguous" in note for note in fit.notes)


def test_depth_of_one_view_from_nothing():
    truth = Truth(14)
    truth.state = replace(truth.state, angles=0.5 * truth.state.angles)  # an open hand: nearly all of it seen
    fit = fit_scans(truth.data, [depth_image(truth, 120)], count=900, rng=np.random.default_rng(0))
    assert truth.apart_mm(fit.state) < 3


def test_fingers_hidden_behind_a_fist_are_called_undecided():
    """Seen from the back with the last joints hidden: what is seen is met, and the report says which fingers nothing is known of."""
    truth = Truth(14)
    angles = np.zeros((1, 15, 3))
    angles[0, :12, 2] = np.tile([1.2, 1.6, 1.0], 4)
    truth.state = replace(
        truth.state, root=np.eye(3)[None], angles=angles, translation=np.zeros((1, 3)), shape=np.zeros(10)
    )
    vertices = truth.vertices()[0]
    pose = look_at(np.array([0.1, 0.5, 0.0]), vertices.mean(0), np.array([0.0, 0.0, 1.0]))
    camera = Cameras.pinhole(torch.as_tensor(pose)[None], 220.0, 140, 140)
    found = fragments(torch.from_numpy(vertices), torch.from_numpy(truth.data.faces), camera)
    z = np.where(found.mask[..., 0].numpy(), found.z_depth[..., 0].numpy(), 0.0).astype(np.float64)
    scan = depth_scan(z, camera, "depth")
    fit = fit_scans(truth.data, [scan], Settings(shape=np.zeros(10)), count=900, rng=np.random.default_rng(0))
    notes = [note for note in fit.notes if note.startswith("ambiguous: hidden")]
    assert notes and any(finger in notes[0] for finger in ("middle", "ring", "pinky"))
    seen = np.unique(truth.data.faces[found.face[found.mask].numpy()])
    apart = np.linalg.norm(truth.vertices(fit.state)[0] - vertices, axis=-1)
    assert apart[seen].mean() < 2.5e-3


def test_depth_of_one_view_beside_keypoints():
    truth = Truth(14)
    seen = Observation(
        "here", joint_set="openpose21", points=truth.noisy(0.004), scans=[depth_image(truth, 120)]
    )
    start = fit_keypoints(truth.data, truth.keypoints, seen.points)
    fit = fit_observation(truth.data, seen, rng=np.random.default_rng(0)).fit
    assert truth.apart_mm(fit.state) < 0.7 * truth.apart_mm(start.state) < 2.5
    assert not fit.observability.unseen(0) or "wrist x" not in fit.observability.unseen(0)


def test_masks_from_a_nearby_start():
    truth = Truth(15)
    vertices = truth.vertices()[0]
    cameras = cameras_round(vertices.mean(0), 4, 160)
    faces = torch.from_numpy(truth.data.faces)
    masks = [fragments(torch.from_numpy(vertices), faces, cameras[v]).mask[..., 0].numpy() for v in range(4)]
    step = np.zeros((1, 51))
    step[0, 3:-3] = truth.generator.normal(0, 0.08, 45)
    step[0, -3:] = 0.006
    start = truth.state.moved(0, step)
    settings = Settings(shape=truth.state.shape)
    fit = fit_silhouettes(truth.data, masks, cameras, settings, start=start, rng=np.random.default_rng(0))
    assert truth.apart_mm(fit.state) < 0.5 * truth.apart_mm(start) and truth.apart_mm(fit.state) < 3
    assert float(fit.notes[-1].split()[-1]) > 0.97


def test_a_fit_refuses_what_it_cannot_use():
    truth = Truth(1)
    with pytest.raises(UserError, match=r"keypoints: expected \(frames, 21, 3\), found \(1, 20, 3\)"):
        fit_keypoints(truth.data, truth.keypoints, truth.points()[:, :20])
    few = truth.points()
    few[:, 2:] = np.nan
    with pytest.raises(UserError, match="at least 3 that are seen"):
        fit_keypoints(truth.data, truth.keypoints, few)
    with pytest.raises(UserError, match="shape: expected at most 10 numbers, found 11"):
        fit_keypoints(truth.data, truth.keypoints, truth.points(), Settings(shape=np.zeros(11)))
    with pytest.raises(UserError, match="components: expected 1 to 45"):
        fit_keypoints(truth.data, truth.keypoints, truth.points(), Settings(components=60))
    with pytest.raises(UserError, match="no joint 'elbow'"):
        fit_keypoints(truth.data, truth.keypoints, truth.points(), Settings(fixed=("elbow",)))
    with pytest.raises(UserError, match="expected metres, found a box of"):
        Scan(truth.vertices()[0] * 1000)
