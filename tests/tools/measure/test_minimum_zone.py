"""Extreme fits against brute force on few points, and the properties that define them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldstone.core.errors import UserError
from fieldstone.tools.measure import (
    NotMeasurable,
    fit_circle,
    fit_cone,
    fit_cylinder,
    fit_line,
    fit_plane,
    fit_sphere,
    fit_torus,
)
from fieldstone.tools.measure.frame import Frame
from fieldstone.tools.measure.ideal import ideal_points
from fieldstone.tools.measure.minimum_zone import expected_range, extreme
from fieldstone.tools.measure.primitives import PRIMITIVES


def exact_width(points: np.ndarray) -> float:
    """Least distance of two parallel planes around the points: the normal is that of a face, or across two edges."""
    edges = [b - a for a, b in combinations(points, 2)]
    normals = [np.cross(a, b) for a, b in combinations(edges, 2)]
    normals = np.array([n / np.linalg.norm(n) for n in normals if np.linalg.norm(n) > 1e-9])
    heights = points @ normals.T
    return float(np.ptp(heights, axis=0).min())


def exact_circle(points: np.ndarray) -> float:
    """Radius of the smallest circle around points (n, 2): through two or three of them."""
    best = np.inf
    for a, b in combinations(points, 2):
        centre = (a + b) / 2
        best = _if_around(points, centre, best)
    for a, b, c in combinations(points, 3):
        matrix = 2 * np.array([b - a, c - a])
        if abs(np.linalg.det(matrix)) > 1e-12:
            best = _if_around(points, np.linalg.solve(matrix, [b @ b - a @ a, c @ c - a @ a]), best)
    return best


def _if_around(points, centre, best):
    r = np.sort(np.linalg.norm(points - centre, axis=1))
    return min(best, r[-1]) if r[-1] - r[-2] < 1e-9 else best


@pytest.mark.parametrize("seed", range(4))
def test_the_narrowest_zone_of_a_plane_is_the_one_brute_force_finds(seed):
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.uniform(-10, 10, (9, 2)), rng.normal(0, 0.2, 9)])
    found = fit_plane(points, robust=False, norm="minimum-zone")
    assert found.extras["zone"] == pytest.approx(exact_width(points), abs=1e-9)
    assert len(found.extras["contacts"]) >= 4
    height = (points - found["point"]) @ found["normal"]
    assert height.max() == pytest.approx(-height.min(), abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), two=st.booleans())
def test_the_smallest_circle_around_points_is_the_one_brute_force_finds(seed, two):
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, 9)
    points = (5 + rng.uniform(-0.3, 0, 9))[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    if two:  # a diameter bounds the circle: no third contact
        points[:2] = [[0, 5.5], [0, -5.5]]
    found = fit_circle(points + np.array([3.0, 4.0]), robust=False, norm="minimum-circumscribed")
    assert found["radius"] == pytest.approx(exact_circle(points), abs=2e-8)


def test_the_largest_circle_inside_touches_three_points_that_enclose_its_centre():
    rng = np.random.default_rng(3)
    angle = rng.uniform(0, 2 * np.pi, 400)
    points = (5 + rng.normal(0, 0.02, 400))[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    found = fit_circle(points, robust=False, norm="maximum-inscribed")
    distance = np.linalg.norm(points - found["centre"][:2], axis=1)
    assert distance.min() == pytest.approx(found["radius"], abs=1e-9)
    contacts = found.extras["contacts"][:, :2] - found["centre"][:2]
    assert len(contacts) == 3
    weights = np.linalg.solve(np.vstack([contacts.T, np.ones(3)]), [0, 0, 1])
    assert (weights > 0).all()  # else it could be moved to grow


def test_roundness_of_a_known_form_is_its_peak_to_valley():
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    for lobes in (2, 3, 5):
        r = 20 + 0.01 * np.cos(lobes * angle)
        points = np.column_stack([r * np.cos(angle), r * np.sin(angle)])
        found = fit_circle(points, robust=False, norm="minimum-zone")
        assert found.extras["zone"] == pytest.approx(0.02, rel=1e-4)
        np.testing.assert_allclose(found["centre"], 0, atol=1e-6)


CASES = {
    "line": (fit_line, (0, 0), {"length": 40}),
    "plane": (fit_plane, (0, 0), {"length": 30}),
    "circle": (fit_circle, (8, 0), {}),
    "sphere": (fit_sphere, (8, 0), {}),
    "cylinder": (fit_cylinder, (8, 0), {"length": 20}),
    "cone": (fit_cone, (8, 0.4), {"length": 8}),
    "torus": (fit_torus, (20, 4), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_no_zone_is_wider_than_the_least_squares_one_and_unit_and_place_do_not_matter(name):
    fit, sizes, shape = CASES[name]
    rng = np.random.default_rng(7)
    frame = Frame.from_axis([4, -2, 9], [0.3, -0.5, 0.8], sizes)
    points, normals = ideal_points(name, frame, 300, rng, **shape)
    points = points + 0.01 * rng.standard_normal((300, 1)) * normals
    if name in ("line", "circle"):
        points = points + 0.01 * rng.standard_normal((300, 3))
    found = fit(points, robust=False, norm="minimum-zone")
    assert 0 < found.extras["zone"] <= found.extras["gauss_zone"] * (1 + 1e-9) or name == "circle"
    assert len(found.extras["contacts"]) >= 3
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    moved = fit(25.4 * points @ turn.T + [100, 50, -70], robust=False, norm="minimum-zone")
    assert moved.extras["zone"] == pytest.approx(25.4 * found.extras["zone"], rel=1e-6)


@pytest.mark.parametrize("name", ["sphere", "cylinder"])
def test_one_sided_fits_hold_all_points_and_shrink_or_grow_no_further(name):
    fit, sizes, shape = CASES[name]
    rng = np.random.default_rng(8)
    frame = Frame.from_axis([4, -2, 9], [0.3, -0.5, 0.8], sizes)
    points, normals = ideal_points(name, frame, 3000, rng, **shape)
    points = points + 0.02 * rng.standard_normal((3000, 1)) * normals
    radii = {}
    for norm in ("minimum-circumscribed", "gauss", "maximum-inscribed"):
        found = fit(points, robust=False, norm=norm)
        radii[norm] = found["radius"]
        if name == "sphere":
            d = np.linalg.norm(points - found["centre"], axis=1) - found["radius"]
        else:
            away = np.cross(points - found["axis_point"], found["axis_direction"])
            d = np.linalg.norm(away, axis=1) - found["radius"]
        if norm == "minimum-circumscribed":
            assert -1e-8 < d.max() < 1e-8
        elif norm == "maximum-inscribed":
            assert -1e-8 < d.min() < 1e-8
    assert radii["minimum-circumscribed"] > radii["gauss"] > radii["maximum-inscribed"]


def test_a_tangent_plane_lies_on_the_points_and_leaves_the_least_room():
    rng = np.random.default_rng(9)
    points = np.column_stack([rng.uniform(-20, 20, (2000, 2)), rng.normal(0, 0.02, 2000)])
    found = fit_plane(points, robust=False, norm="minimum-circumscribed")
    height = (points - found["point"]) @ found["normal"]
    assert height.max() == pytest.approx(0, abs=1e-9)
    contacts = found.extras["contacts"][:, :2] - points[:, :2].mean(axis=0)
    weights = np.linalg.solve(np.vstack([contacts[:3].T, np.ones(3)]), [0, 0, 1])
    assert (
        weights > -1e-9
    ).all()  # the contacts enclose the centroid, else a tilt would bring the plane nearer


def test_covariance_of_the_contacts_tells_what_their_noise_does():
    """Few points far apart stay the contacts: the linear prediction is then what repeated noise shows."""
    rng = np.random.default_rng(10)
    frame = Frame.from_axis([0, 0, 0], [0, 0, 1], (5.0, 0.0))
    angle = np.radians([0, 90, 180, 270])
    base = (
        np.column_stack([np.cos(angle), np.sin(angle), 0 * angle]) * np.array([5.1, 4.9, 5.1, 4.9])[:, None]
    )
    found = extreme(PRIMITIVES["ring"], base, frame, "minimum-zone")
    sigma, zones, radii = 1e-3, [], []
    for _ in range(80):
        noisy = base * (1 + sigma / 5 * rng.standard_normal((4, 1)))
        again = extreme(PRIMITIVES["ring"], noisy, frame, "minimum-zone")
        zones.append(again.zone)
        radii.append(again.frame.sizes[0])
    predicted = sigma * np.linalg.norm(found.zone_sensitivity)
    assert np.std(zones) == pytest.approx(predicted, rel=0.3)
    assert np.std(radii) == pytest.approx(sigma * np.linalg.norm(found.sensitivity[2]), rel=0.3)


def test_expected_range_is_that_of_normal_values():
    rng = np.random.default_rng(11)
    for count in (5, 100, 2000):
        ranges = np.ptp(rng.standard_normal((2000, count)), axis=1)
        assert expected_range(count) == pytest.approx(ranges.mean(), rel=0.03)


def test_norms_that_make_no_sense_are_refused():
    rng = np.random.default_rng(12)
    circle = Frame.from_axis([0, 0, 0], [0, 0, 1], (8.0, 2.0))
    points, _ = ideal_points("torus", circle, 200, rng)
    with pytest.raises(UserError, match="no maximum-inscribed torus"):
        fit_torus(points + 1e-3 * rng.normal(size=points.shape), robust=False, norm="maximum-inscribed")
    with pytest.raises(UserError, match="norm 'chebyshev': one of"):
        fit_plane(points, norm="chebyshev")
    arc, _ = ideal_points("circle", circle, 60, rng, arc=np.radians(40))
    arc = (arc + 1e-3 * rng.normal(size=arc.shape))[:, :2]
    with pytest.raises(NotMeasurable, match="do not bound"):
        fit_circle(arc, robust=False, norm="maximum-inscribed")
