"""Holes whose truth is known: rims without bias, bores, countersinks, slots and notches told apart, steps told apart."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fieldstone.core.errors import UserError
from fieldstone.tools import measure
from fieldstone.tools.measure import hole_edge
from fieldstone.tools.measure.cloud import Cloud
from fieldstone.tools.measure.errors import NotMeasurable
from fieldstone.tools.measure.faces import parallel_faces
from fieldstone.tools.measure.hole_edge import HoleEdge, fit_hole_edge, radius_bound
from fieldstone.tools.measure.result import read_json, write_json
from fieldstone.tools.measure.simulate import build, sample_surface

from .plates import bolt_holes, plate, pose_at_random

HOLES = [(0.0, 0.0, 14.0), *bolt_holes(8, 28.0, 3.0)]


def nearest(measured, place):
    """The measured hole nearest a place (x, y) in z = 0."""
    holes = measured.parameters["holes"] + [h for h in [measured.parameters.get("bore")] if h]
    return min(holes, key=lambda h: np.hypot(h["centre"][0] - place[0], h["centre"][1] - place[1]))


@pytest.mark.parametrize("half", [0.0, 2.0])
def test_rim_likelihood_has_its_gradient(half):
    from dataclasses import replace

    rng = np.random.default_rng(0)
    points = plate(rng, [(0, 0, 5.0, half, 0.3)], outer=9.0, density=20)[:, :2]
    edge = HoleEdge(np.array([0.02, -0.03]), 5.02, 0.08, half, 0.3, slope=np.array([0.01, -0.02]), stray=1e-3)
    area, step = np.pi * 81, 1e-6

    def moved(name, index, h):
        if name == "blur":
            return replace(edge, blur=edge.blur * np.exp(h))
        value = getattr(edge, name)
        if index is not None:
            value = value + h * np.eye(2)[index]
        else:
            value = value + h
        return replace(edge, **{name: value})

    names = [("centre", 0), ("centre", 1), ("radius", None), ("blur", None), ("slope", 0), ("slope", 1)]
    names += [("half_length", None), ("angle", None)] if half else []
    _, gradient = hole_edge._score(points, edge, np.zeros(2), area)
    for k, (name, index) in enumerate(names):
        ahead, behind = (
            hole_edge._score(points, moved(name, index, h), np.zeros(2), area)[0] for h in (step, -step)
        )
        assert gradient[k] == pytest.approx((ahead - behind) / (2 * step), rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("blur", [None, 0.05])
def test_rim_is_unbiased_at_the_bound_and_knows_its_uncertainty(blur):
    """Of 60 holes: bias below 5 um (three standard errors), scatter at the bound; naive innermost points are off by tens of micrometres."""
    errors, claimed, naive = [], [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        points = plate(rng, [(0, 0, 5.0)], outer=10.0, density=25, blur=0.05)[:, :2]
        edge = fit_hole_edge(points, HoleEdge(np.array([0.05, -0.05]), 5.05, 0.1), 3.5, blur=blur)
        assert edge.converged
        errors.append(edge.radius - 5)
        claimed.append(np.sqrt(edge.covariance[2, 2]))
        angle = np.arctan2(*points.T[::-1])
        sector = ((angle / (2 * np.pi) + 0.5) * 72).astype(int) % 72
        rho = np.hypot(*points.T)
        naive.append(np.mean([rho[sector == k].min() for k in range(72)]) - 5)
    errors, bound = np.array(errors), radius_bound(5.0, 25.0, 0.05, blur_known=blur is not None)
    assert abs(errors.mean()) < 0.005
    assert errors.std() < 1.3 * bound
    assert np.median(claimed) == pytest.approx(bound, rel=0.15)
    assert (np.abs(errors) < 1.96 * np.array(claimed)).mean() > 0.87
    assert abs(np.mean(naive)) > 5 * abs(errors.mean())


def test_holes_of_a_plate_in_any_pose():
    rng = np.random.default_rng(1)
    pose = pose_at_random(rng)
    points = plate(rng, HOLES) @ pose[:3, :3].T + pose[:3, 3]
    found = measure.find_holes(Cloud.from_points(points, "mm"))
    assert len(found["holes"]) == 9
    inverse = np.linalg.inv(pose)
    deviations = []
    for i, hole in enumerate(found.parameters["holes"]):
        at = inverse[:3, :3] @ hole["centre"] + inverse[:3, 3]
        assert abs(at[2]) < 0.002
        x, y, radius = min(HOLES, key=lambda h: np.hypot(h[0] - at[0], h[1] - at[1]))
        sd = found.standard_uncertainty()[f"holes[{i}].radius"]
        deviations.append((hole["radius"] - radius) / sd)
        own = inverse[:3, :3] @ found.covariance_of(f"holes[{i}].centre") @ inverse[:3, :3].T
        off = at[:2] - [x, y]
        assert off @ np.linalg.solve(own[:2, :2], off) < 16
    assert np.abs(deviations).max() < 4
    assert found.parameters["holes"][0]["radius"] == pytest.approx(14, abs=0.05)  # the middle one comes first
    assert abs(abs(found["normal"] @ pose[:3, 2]) - 1) < 1e-6
    assert found.extras["blur"] == pytest.approx(0.06, rel=0.25)


def test_walls_do_not_move_the_rim_and_make_the_hole_more_exact():
    rng = np.random.default_rng(2)
    points = plate(rng, HOLES, depth=6.0, blur=0.05, sigma=0.05)
    cloud = Cloud.from_points(points, "mm")
    rims = measure.find_holes(cloud, walls=False)
    both = measure.find_holes(cloud)
    errors = [nearest(rims, h)["radius"] - h[2] for h in HOLES]
    assert abs(np.mean(errors)) < 0.012
    for place in HOLES:
        hole = nearest(both, place)
        assert hole["bore"]["radius"] == pytest.approx(place[2], abs=0.02)
        assert hole["radius"] == pytest.approx(place[2], abs=0.02)
        assert hole["bore"]["seen_to"] == pytest.approx(6, abs=0.2)
    label = f"holes[{both.parameters['holes'].index(nearest(both, HOLES[1]))}].radius"
    other = f"holes[{rims.parameters['holes'].index(nearest(rims, HOLES[1]))}].radius"
    assert both.standard_uncertainty()[label] < 0.6 * rims.standard_uncertainty()[other]


def test_bore_deep_enough_has_its_own_axis():
    rng = np.random.default_rng(3)
    points = plate(rng, [(0.0, 0.0, 8.0)], outer=20.0, depth=12.0, blur=0.02)
    lean = np.deg2rad(1.5)
    wall = points[:, 2] < -0.2
    points[wall, 0] += np.tan(lean) * points[wall, 2]
    bore = measure.find_holes(Cloud.from_points(points, "mm")).parameters["holes"][0]["bore"]
    assert bore["tilt_deg"] == pytest.approx(1.5, abs=5 * bore["tilt_sd_deg"] + 0.02)


def test_slot_and_notch_are_told_from_holes():
    rng = np.random.default_rng(4)
    slot = (18.0, 6.0, 3.0, 4.0, 0.6)
    points = plate(rng, [(-12.0, 0.0, 5.0), slot])
    open_slot = (np.abs(points[:, 0]) < 3) & (points[:, 1] < -24)
    found = measure.find_holes(Cloud.from_points(points[~open_slot], "mm"))
    kinds = {hole["type"]: hole for hole in found.parameters["holes"]}
    assert set(kinds) == {"hole", "slot", "notch"}
    assert kinds["slot"]["width"] == pytest.approx(6, abs=0.1)
    assert kinds["slot"]["length"] == pytest.approx(14, abs=0.1)
    direction = np.array(kinds["slot"]["axis_direction"])[:2]
    assert abs(np.linalg.det([direction, [np.cos(0.6), np.sin(0.6)]])) < 0.02
    assert kinds["notch"]["width" if "width" in kinds["notch"] else "radius"] > 2
    assert any("open slot" in warning for warning in found.warnings)
    i = found.parameters["holes"].index(kinds["slot"])
    assert {f"holes[{i}].length", f"holes[{i}].width"} <= set(found.covariance_names)


def test_steps_are_told_apart():
    rng = np.random.default_rng(5)
    points = plate(rng, [(0.0, 0.0, 10.0)], sigma=0.02, step=(28.0, -0.15))
    cloud = Cloud.from_points(points, "mm")
    faces = parallel_faces(cloud, rng=np.random.default_rng(0))
    assert sorted(abs(f.height - faces[0].height) for f in faces) == pytest.approx([0, 0.15], abs=0.003)
    with pytest.raises(UserError, match="there are 2 parallel faces"):
        measure.find_holes(cloud, face=2)


def test_two_equal_faces_are_called_ambiguous():
    rng = np.random.default_rng(6)
    one = plate(rng, HOLES, density=6)
    other = plate(rng, HOLES, density=6) - [0, 0, 8.0]
    found = measure.find_holes(Cloud.from_points(np.concatenate([one, other]), "mm"), walls=False)
    assert any("ambiguous datum" in warning and "8" in warning for warning in found.warnings)


@pytest.fixture(scope="module")
def turbine():
    rng = np.random.default_rng(0)
    part = build("turbine-flange", rng)
    cloud, owner = sample_surface(part, 400_000, rng, noise=0.03)
    front = np.array([part.faces[k].label not in ("back", "rim") for k in owner])
    return part, cloud.select(front)


def test_flange_of_every_kind_of_hole(turbine):
    part, cloud = turbine
    found = measure.measure_flange(cloud)
    assert found["bore"]["radius"] == pytest.approx(40, abs=0.003)
    assert found["normal"][2] == pytest.approx(1, abs=1e-6)
    assert found["pitch_circle"]["radius"] == pytest.approx(88, abs=0.03)
    assert sorted(round(f["height"], 2) for f in found.parameters["faces"])[0] == pytest.approx(
        -1.5, abs=0.01
    )
    holes = found.parameters["holes"]
    assert sorted(h["type"] for h in holes) == ["hole"] * 10 + ["slot"]
    for i in range(10):
        truth = part.feature(f"hole{i}").parameters
        hole = nearest(found, truth["axis_point"])
        assert hole["radius"] == pytest.approx(truth["radius"], abs=0.006)
        np.testing.assert_allclose(hole["centre"][:2], truth["axis_point"][:2], atol=0.008)
        if i in (2, 7):
            assert hole["countersink"]["half_angle_deg"] == pytest.approx(45, abs=0.5)
            assert hole["countersink"]["radius"] == pytest.approx(8, abs=0.05)
            np.testing.assert_allclose(hole["countersink"]["apex"], part.feature(f"hole{i} countersink").parameters["apex"], atol=0.1)  # fmt: skip
        assert (
            abs((hole["angle_deg"] - np.degrees(np.arctan2(*truth["axis_point"][1::-1])) + 180) % 360 - 180)
            < 0.02
        )


def test_result_survives_its_file(turbine, tmp_path):
    _, cloud = turbine
    found = measure.find_holes(cloud, diameter=(9, 12))
    write_json(tmp_path / "holes.json", found)
    (again,) = read_json(tmp_path / "holes.json")
    assert again.parameters == json.loads((tmp_path / "holes.json").read_text())["parameters"]
    np.testing.assert_allclose(again.covariance, found.covariance)
    assert len(again.parameters["holes"]) == 8
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UserError, match="schema None"):
        read_json(tmp_path / "other.json")


def test_holes_picture_shows_every_hole(turbine):
    from fieldstone.tools.measure.holes_picture import pictures

    _, cloud = turbine
    found = measure.measure_flange(cloud)
    (picture,) = pictures(found, cloud).values()
    for i in range(len(found.parameters["holes"])):
        assert f">{i}</text>" in picture
    assert picture.count("<circle") >= 12


def test_what_cannot_be_measured_is_said_with_numbers():
    rng = np.random.default_rng(7)
    cloud = Cloud.from_points(plate(rng, HOLES), "mm")
    with pytest.raises(
        NotMeasurable, match=r"diameter of 8 to 9 mm in the face; the face has openings of 5\.\d+"
    ):
        measure.find_holes(cloud, diameter=(8, 9))
    with pytest.raises(UserError, match="the first must be above 0"):
        measure.find_holes(cloud, diameter=(9, 8))
    with pytest.raises(NotMeasurable, match="needs 200 points, found 50"):
        measure.find_holes(cloud.select(np.arange(50)))
    whole = Cloud.from_points(plate(rng, []), "mm")
    with pytest.raises(NotMeasurable, match=r"only holes wider than [\d.]+ mm are told from gaps"):
        measure.find_holes(whole)
