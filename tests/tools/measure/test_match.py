"""Matching patterns whose pose is known: pairs, roll, clearances and their probability, against brute force and by simulation."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fieldstone.core.errors import UserError
from fieldstone.tools.measure.errors import NotMeasurable
from fieldstone.tools.measure.frame import axes_from
from fieldstone.tools.measure.match import match_holes
from fieldstone.tools.measure.match_candidates import candidates
from fieldstone.tools.measure.match_picture import pictures
from fieldstone.tools.measure.match_roll import (
    Pose2,
    least_squares_pose,
    minimax_pose,
    offsets,
    pose_jacobian,
    roll_limits,
)
from fieldstone.tools.measure.result import Measurement

from .plates import bolt_holes, pose_at_random

KEYED = np.array(bolt_holes(8, 50.0, 5.5, key_deg=5.0))


def flange(
    holes,  # (x, y, radius)
    pose=None,
    *,
    sigma=0.0,  # stated standard deviation of every centre's coordinates and radius
    noise=None,  # (n, 3) that is added to centres and radius
    stud=False,
    unit="mm",
    bore=None,
) -> Measurement:
    """A result of `find_holes` whose face is z = 0 in its own frame."""
    holes = np.array(holes, float)
    if noise is not None:
        holes = holes + noise
    pose = np.eye(4) if pose is None else pose
    axes = axes_from(pose[:3, 2])
    names = [f"{n}.{a}" for n in ("point", "normal") for a in "xyz"]
    blocks = [np.zeros((6, 6))]
    listed = []
    for i, (x, y, radius) in enumerate(holes):
        centre = pose[:3, :3] @ [x, y, 0] + pose[:3, 3]
        listed.append(
            {"type": "boss" if stud else "hole", "centre": centre.tolist(), "radius": float(radius)}
        )
        names += [f"holes[{i}].centre.{a}" for a in "xyz"] + [f"holes[{i}].radius"]
        block = np.zeros((4, 4))
        block[:3, :3] = sigma**2 * axes[:2].T @ axes[:2]
        block[3, 3] = sigma**2
        blocks.append(block)
    size = sum(map(len, blocks))
    covariance, at = np.zeros((size, size)), 0
    for block in blocks:
        covariance[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    parameters = {"point": pose[:3, 3].tolist(), "normal": pose[:3, 2].tolist(), "holes": listed}
    if bore is not None:
        centre = pose[:3, :3] @ [*bore, 0.0] + pose[:3, 3]
        parameters["bore"] = {"type": "hole", "centre": centre.tolist(), "radius": 20.0}
    return Measurement("flange", unit, parameters, covariance, names, 0.0, 1000, 1000)


def mirrored(holes):
    """The same places on the part that meets it: seen on its own face, y reversed."""
    return np.array(holes, float) * [1, -1, 1]


FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


def test_exact_parts_are_brought_together_exactly():
    rng = np.random.default_rng(0)
    for _ in range(4):
        one, other = pose_at_random(rng), pose_at_random(rng)
        order = rng.permutation(8)
        found = match_holes(flange(KEYED, one), flange(mirrored(KEYED)[order], other), bolt_diameter=10.0)
        truth = one @ FLIP @ np.linalg.inv(other)
        np.testing.assert_allclose(found.extras["matrix"], truth, atol=1e-9)
        assert found["fold"] == 1
        assert found["mismatch_most"] < 1e-9
        pairs = {(p["fixed"], p["moving"]) for p in found["pairs"]}
        assert pairs == {(f"holes[{order[k]}]", f"holes[{k}]") for k in range(8)}
        assert found["clearance_min"] == pytest.approx(1.0)
        assert found.extras["verdict"] == "assembles"


def test_faces_that_look_the_same_way_and_other_units():
    rng = np.random.default_rng(1)
    one, other = pose_at_random(rng), pose_at_random(rng)
    small = other.copy()
    small[:3, 3] /= 25.4
    found = match_holes(flange(KEYED, one), flange(KEYED / 25.4, small, unit="inch"), same_way=True)
    np.testing.assert_allclose(
        found.extras["matrix"][:3, :3], (one @ np.linalg.inv(other))[:3, :3], atol=1e-9
    )
    assert found.unit == "mm"
    assert found["mismatch_most"] < 1e-9
    assert found["largest_bolt"] == pytest.approx(11.0)
    assert any("give the bolts' diameter" in warning for warning in found.warnings)


def test_equal_spacing_is_reported_and_a_key_or_a_wish_resolves_it():
    rng = np.random.default_rng(2)
    equal = np.array(bolt_holes(6, 40.0, 4.0))
    sigma = 0.02
    noisy = [
        flange(mirrored(equal), sigma=sigma, noise=sigma * rng.normal(size=equal.shape)) for _ in range(2)
    ]
    found = match_holes(noisy[0], noisy[1], bolt_diameter=7.0, same_way=True)
    assert found["fold"] == 6
    rolls = np.sort([c["roll_deg"] % 360 for c in found["candidates"]])
    np.testing.assert_allclose(np.diff(rolls), 60, atol=0.1)
    assert any("6-fold roll ambiguity" in warning and "60" in warning for warning in found.warnings)
    keyed = match_holes(noisy[0], noisy[1], bolt_diameter=7.0, same_way=True, key=(2, 0))
    assert ("holes[2]", "holes[0]") in {(p["fixed"], p["moving"]) for p in keyed["pairs"]}
    assert not any("ambiguity" in warning for warning in keyed.warnings)
    wished = match_holes(noisy[0], noisy[1], same_way=True, near_deg=keyed["roll_deg"] + 10)
    assert wished["roll_deg"] == pytest.approx(keyed["roll_deg"])
    with pytest.raises(UserError, match="key 9:0"):
        match_holes(noisy[0], noisy[1], key=(9, 0), same_way=True)


def test_threads_resolve_the_roll():
    equal = np.array(bolt_holes(6, 40.0, 4.0))

    def thread(angle):
        names = ["start_angle_deg"]
        values = {
            "start_angle_deg": angle,
            "starts": 1,
            "axis_direction": [0, 0, 1.0],
            "axis_point": [0, 0, 0],
        }
        return Measurement("thread", "mm", values, np.array([[0.01]]), names, 0.0, 1, 1)

    for turn in range(3):
        found = match_holes(
            flange(equal), flange(equal), same_way=True, threads=(thread(100.0), thread(100.0 - 60.0 * turn))
        )
        assert (found["roll_deg"] - 60 * turn + 180) % 360 - 180 == pytest.approx(0, abs=1e-6)
        assert "starts" in found.extras["roll_resolved_by"]


def test_missing_features_do_not_confuse_the_pairs():
    one, other = KEYED[[0, 1, 2, 4, 5, 7]], mirrored(KEYED)[[1, 2, 3, 4, 6, 7, 0]]
    found = match_holes(flange(one), flange(other))
    assert len(found["pairs"]) == 5
    assert found["mismatch_most"] < 1e-9


def test_closed_form_is_the_least_and_its_jacobian_right():
    rng = np.random.default_rng(3)
    moving, weights = rng.normal(size=(7, 2)) * 30, rng.uniform(0.5, 2, 7)
    fixed = Pose2(2.0, np.array([3.0, -4.0]))(moving) + 0.1 * rng.normal(size=(7, 2))
    best = least_squares_pose(moving, fixed, weights)

    def cost(pose):
        return float(weights @ (offsets(pose, moving, fixed) ** 2).sum(axis=1))

    for _ in range(20):
        other = Pose2(best.roll + 1e-4 * rng.normal(), best.shift + 1e-3 * rng.normal(size=2))
        assert cost(other) > cost(best)
    jacobian = pose_jacobian(best, moving)
    for k in range(3):
        step = 1e-6 * np.eye(3)[k]
        ahead = Pose2(best.roll + step[2], best.shift + step[:2])(moving)
        behind = Pose2(best.roll - step[2], best.shift - step[:2])(moving)
        np.testing.assert_allclose(jacobian[:, k], (ahead - behind).ravel() / 2e-6, atol=1e-6)


def test_minimax_against_a_search_and_roll_play_against_a_scan():
    from scipy.optimize import minimize

    rng = np.random.default_rng(4)
    moving = KEYED[:, :2]
    fixed = moving + 0.15 * rng.normal(size=moving.shape)
    allowed = rng.uniform(0.35, 0.5, len(moving))
    start = least_squares_pose(moving, fixed)
    best = minimax_pose(start, moving, fixed, allowed)

    def worst(x):
        pose = Pose2(start.roll + x[0] / 50, start.shift + x[1:])
        return float((np.hypot(*offsets(pose, moving, fixed).T) - allowed).max())

    found = min(
        (minimize(worst, 0.05 * rng.normal(size=3), method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 4000}) for _ in range(4)),
        key=lambda r: r.fun,
    )  # fmt: skip
    mine = float((np.hypot(*offsets(best, moving, fixed).T) - allowed).max())
    assert mine <= found.fun + 1e-7
    assert mine <= worst(np.zeros(3))

    low, high = roll_limits(best, moving, fixed, allowed)
    assert low < 0 < high

    def fits(roll):  # some shift keeps all within: the least over shifts, a convex problem
        def excess(shift):
            return float(
                (np.hypot(*offsets(Pose2(best.roll + roll, shift), moving, fixed).T) - allowed).max()
            )

        return minimize(excess, best.shift, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-10}).fun

    for limit in (low, high):
        assert fits(0.98 * limit) < 0 < fits(1.02 * limit)
    assert roll_limits(best, moving, fixed, allowed - 1.0) is None


def test_pose_uncertainty_is_what_noise_does():
    sigma, trials = 0.03, 80
    rng = np.random.default_rng(5)
    rolls, shifts = [], []
    for _ in range(trials):
        one, other = (
            flange(holes, sigma=sigma, noise=sigma * rng.normal(size=KEYED.shape))
            for holes in (KEYED, mirrored(KEYED))
        )
        found = match_holes(one, other)
        rolls.append(found["roll_deg"])
        shifts.append(found["translation"])
    claimed = found.standard_uncertainty()
    rolls = (np.array(rolls) - rolls[0] + 180) % 360 - 180
    # the bound: sqrt 2 sigma / (R sqrt n)
    assert claimed["roll_deg"] == pytest.approx(np.degrees(np.sqrt(2) * sigma / (50 * np.sqrt(8))), rel=0.02)
    assert np.std(rolls) == pytest.approx(claimed["roll_deg"], rel=0.3)
    assert np.std(shifts, axis=0)[0] == pytest.approx(claimed["translation.x"], rel=0.3)


def test_probability_of_assembly_is_how_often_true_parts_go_together():
    """Parts drawn about their nominal far more widely than they are measured, matched: the stated probability is right on average.

    A little low rather than high: it knows the measurements only, not that the parts were drawn about a nominal.
    """
    rng = np.random.default_rng(6)
    sigma, stated, happened = 0.02, [], []
    for _ in range(30):
        one = KEYED + 0.1 * rng.normal(size=(8, 3))
        other = mirrored(KEYED) + 0.1 * rng.normal(size=(8, 3)) - [0, 0, 0.35]
        a = flange(one, sigma=sigma, noise=sigma * rng.normal(size=one.shape))
        b = flange(other, sigma=sigma, noise=sigma * rng.normal(size=other.shape), stud=True)
        found = match_holes(a, b, objective="minimax", trials=500, rng=rng)
        stated.append(found["assembly_probability"])
        moved = (found.extras["matrix"] @ np.column_stack([other[:, :2], np.zeros(8), np.ones(8)]).T)[:2].T
        happened.append((np.hypot(*(moved - one[:, :2]).T) < one[:, 2] - other[:, 2]).all())
    stated, entered = np.array(stated), np.array(happened)
    assert 0.2 < stated.mean() < 0.8
    assert -0.1 < entered.mean() - stated.mean() < 0.25
    assert stated[entered].mean() > stated[~entered].mean() + 0.3


def test_verdicts_and_robot():
    tight = KEYED - [0, 0, 0.5]
    wide = flange(KEYED, sigma=0.01)
    stud = flange(mirrored(tight), sigma=0.01, stud=True)
    assert match_holes(wide, stud).extras["verdict"] == "assembles"
    assert (
        match_holes(wide, flange(mirrored(KEYED - [0, 0, -0.2]), sigma=0.01, stud=True)).extras["verdict"]
        == "does not"
    )
    shaky = match_holes(wide, stud, robot_sigma=(0.25, 0.0))
    assert shaky.extras["verdict"] == "undecided"
    assert shaky["roll_play_deg"] == pytest.approx([-np.degrees(0.5 / 50), np.degrees(0.5 / 50)], rel=0.02)


def test_centring_on_the_bore():
    rng = np.random.default_rng(7)
    a = flange(KEYED, pose_at_random(rng), sigma=0.01, bore=(0.3, 0.0))
    b = flange(mirrored(KEYED), pose_at_random(rng), sigma=0.01, bore=(0.0, 0.0))
    on_pattern, on_bore = match_holes(a, b), match_holes(a, b, centring="bore")
    assert on_pattern["bore_offset"] == pytest.approx(0.3, abs=1e-9)
    assert on_bore["bore_offset"] < 1e-9
    assert on_bore["mismatch_most"] > 0.2
    with pytest.raises(UserError, match="both parts must have one"):
        match_holes(flange(KEYED), b, centring="bore")


def test_a_plane_and_features_measured_one_by_one():
    plane = Measurement("plane", "mm", {"point": [0, 0, 0.0], "normal": [0, 0, 1.0]}, np.zeros((6, 6)), [f"{n}.{a}" for n in ("point", "normal") for a in "xyz"], 0, 9, 9)  # fmt: skip
    parts = [plane]
    for x, y, radius in mirrored(KEYED):
        values = {"axis_point": [x, y, 7.0], "axis_direction": [0, 0, 1.0], "radius": radius}
        parts.append(Measurement("cylinder", "mm", values, np.zeros((0, 0)), [], 0, 9, 9))
    found = match_holes(flange(KEYED), parts, bolt_diameter=10)
    assert found["mismatch_most"] < 1e-9
    with pytest.raises(UserError, match="give one result of measure holes"):
        match_holes(flange(KEYED), parts[1:])


def test_parts_that_do_not_belong_together():
    with pytest.raises(
        NotMeasurable, match=r"no roll brings the patterns together: at best \d of 8 features"
    ):
        match_holes(flange(KEYED), flange(np.array(bolt_holes(8, 80.0, 5.5))))
    with pytest.raises(NotMeasurable, match="a roll needs 2"):
        match_holes(flange(KEYED[:1]), flange(KEYED))
    with pytest.raises(UserError, match="objective 'best'"):
        match_holes(flange(KEYED), flange(KEYED), objective="best")


def test_candidates_of_random_places_hold_the_truth():
    rng = np.random.default_rng(8)
    places = rng.uniform(-50, 50, (9, 2))
    truth = Pose2(1.1, np.array([5.0, 2.0]))
    found = candidates(places, truth(places)[rng.permutation(9)], np.zeros(9), np.zeros(9))
    assert found[0].pose.roll == pytest.approx(1.1)
    assert found[0].rms < 1e-9


def test_picture_and_command(tmp_path):
    import argparse

    from fieldstone.tools.measure.cli import add_subcommands, run
    from fieldstone.tools.measure.result import write_json

    a, b = flange(KEYED, sigma=0.01), flange(mirrored(KEYED), sigma=0.01)
    write_json(tmp_path / "a.json", a)
    write_json(tmp_path / "b.json", b)
    parser = argparse.ArgumentParser()
    add_subcommands(parser)

    def measured(*more):
        out = tmp_path / "m.json"
        args = parser.parse_args(
            ["match", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--json", str(out), *more]
        )
        args.debug = False
        return run(args), json.loads(out.read_text()) if out.exists() else None

    code, document = measured("--bolt", "10")
    assert code == 0 and document["kind"] == "match" and document["extras"]["verdict"] == "assembles"
    assert measured("--bolt", "11.5")[0] == 1
    assert measured("--bolt", "10.97")[0] == 3
    assert measured("--key", "a")[0] == 2
    found = match_holes(a, b, bolt_diameter=10)
    drawn = pictures(found)
    assert len(drawn) == 2 and all(svg.startswith("<svg") for svg in drawn.values())
    assert drawn["Hole pattern with clearances"].count("<circle") == 16
