"""The HTML report: whole in itself, escaped, with a picture for what was measured."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from fieldstone.tools.measure import (
    Cloud,
    fit_circle,
    fit_cylinder,
    fit_line,
    fit_plane,
    fit_sphere,
    fit_torus,
)
from fieldstone.tools.measure.colour_map import coloured, nice_ceiling
from fieldstone.tools.measure.deviation_picture import frame_of, pictures
from fieldstone.tools.measure.distances_cpu import signed
from fieldstone.tools.measure.frame import Frame
from fieldstone.tools.measure.holes_picture import pictures as holes_pictures
from fieldstone.tools.measure.ideal import ideal_points
from fieldstone.tools.measure.report import PICTURES, write_report
from fieldstone.tools.measure.result import Measurement
from fieldstone.tools.measure.tolerance_picture import pictures as tolerance_pictures

CASES = {
    "line": (fit_line, ()),
    "plane": (fit_plane, ()),
    "circle": (fit_circle, (8.0,)),
    "sphere": (fit_sphere, (8.0,)),
    "cylinder": (fit_cylinder, (8.0,)),
    "torus": (fit_torus, (20.0, 4.0)),
}


def measured(name):
    rng = np.random.default_rng(0)
    fit, sizes = CASES[name]
    points, normals = ideal_points(
        name, Frame.from_axis([300, 2, 9], [0.3, -0.5, 0.8], sizes), 900, rng, length=30
    )
    cloud = Cloud.from_points(
        points + 0.01 * rng.standard_normal((900, 1)) * normals, "mm", origin=[300, 0, 0]
    )
    return fit(cloud), cloud


@pytest.mark.parametrize("name", CASES)
def test_a_fit_is_drawn_with_its_deviations(name):
    result, cloud = measured(name)
    primitive, frame = frame_of(result, cloud.origin)
    residuals = signed(primitive, np.ascontiguousarray(cloud.points[result.inliers]), frame)
    assert np.sqrt(np.mean(residuals**2)) == pytest.approx(result.rms, rel=1e-6)
    drawn = pictures(result, cloud)
    assert len(drawn) == 2
    for svg in drawn.values():
        ElementTree.fromstring(f"<div>{svg}</div>")


def test_a_report_loads_nothing_and_escapes_everything(tmp_path):
    result, cloud = measured("plane")
    result.warnings.append("<script>alert(1)</script>")
    result.input = {"path": "<b>x</b>.ply", "sha256": "ab" * 32}
    path = write_report(tmp_path / "out", [result], cloud=cloud, pictures=[("<i>mine</i>", "<svg></svg>")])
    html = path.read_text()
    assert "<script" not in html and "<b>x" not in html and "<i>mine" not in html
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", html)
    assert "Deviation map" in html and "Residuals" in html and "abab" in html
    ids = re.findall(r'id="(plot\d+)"', html)
    assert len(ids) == len(set(ids)) >= 3  # a clip path that two pictures share would blank one of them


def test_kinds_without_a_picture_module_still_make_a_report(tmp_path):
    other = Measurement(
        "something", None, {"points": 3, "centre": [1.0, 2.0, 3.0], "items": [{"a": 1.5, "b": [1.0, None]}], "flag": True},
        np.eye(3) * 1e-4, ["centre.x", "centre.y", "centre.z"], 0.1, 3, 3,
    )  # fmt: skip
    html = write_report(tmp_path, [other]).read_text()
    assert "1.000 ± 0.020" in html and "1, -" in html
    assert set(PICTURES) >= {"plane", "holes", "match", "thread", "tolerances", "decode"}


def test_characteristics_are_drawn_against_their_limits():
    rows = [
        {
            "name": "a<b",
            "value": 0.5,
            "bias": 0.1,
            "expanded": 0.1,
            "lower": None,
            "upper": 1.0,
            "verdict": "accept",
        },
        {
            "name": "size",
            "value": 10.3,
            "bias": 0.0,
            "expanded": 0.05,
            "lower": 9.9,
            "upper": 10.1,
            "verdict": "reject",
        },
        {
            "name": "none",
            "value": None,
            "bias": None,
            "expanded": None,
            "lower": None,
            "upper": 1.0,
            "verdict": "not measurable",
        },
    ]
    m = Measurement("tolerances", "mm", {"characteristics": rows}, np.eye(3), ["a", "b", "c"], 0.1, 3, 3)
    (svg,) = tolerance_pictures(m).values()
    root = ElementTree.fromstring(svg)
    assert [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")][:4] == [
        "a<b",
        "accept",
        "size",
        "reject",
    ]


def test_colours_are_pale_at_zero_transparent_without_value_and_limits_are_round():
    rgba = coloured(np.array([-1.0, 0.0, 1.0, np.nan, 5.0]), -1, 1, two_sided=True)
    assert rgba[1].min() > 220 and rgba[3, 3] == 0
    assert rgba[0, 2] > rgba[0, 0] and rgba[2, 0] > rgba[2, 2]
    np.testing.assert_array_equal(rgba[2], rgba[4])
    assert [nice_ceiling(v) for v in (0.013, 0.2, 7)] == pytest.approx([0.02, 0.2, 10])


def test_a_hole_pattern_counts_its_features_in_english():
    kinds = ["boss", "boss", "notch", "notch", "hole"]
    holes = [{"type": kind, "centre": [10.0 * i, 0.0, 0.0], "radius": 3.0} for i, kind in enumerate(kinds)]
    m = Measurement(
        "holes", "mm", {"point": [0.0, 0.0, 0.0], "normal": [0.0, 0.0, 1.0], "holes": holes}, np.zeros((0, 0)), [], 0.1, 3, 3
    )  # fmt: skip
    (svg,) = holes_pictures(m).values()
    assert "1 hole, 2 bosses, 2 notches" in svg
