"""Charts and formatting of the report; the report of a real run is tested in test_commands.py."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from fieldstone.tools.training.chart import line_chart, nice_ticks
from fieldstone.tools.training.progress import Lines, duration, rate


def points_of(svg: str) -> list[tuple[float, float]]:
    line = re.search(r'class="line" d="M([^"]+)"', svg).group(1)
    return [tuple(float(number) for number in pair.split()) for pair in line.split("L")]


def test_a_chart_is_xml_and_its_points_keep_their_order_and_proportions():
    svg = line_chart("a < b", [0, 1, 3], [10, 20, 40], "seconds")
    ElementTree.fromstring(svg)
    (x0, y0), (x1, y1), (x2, y2) = points_of(svg)
    assert (x2 - x0) == pytest.approx(3 * (x1 - x0), abs=0.2)
    assert (y0 - y2) == pytest.approx(3 * (y0 - y1), abs=0.2)
    assert y0 > y1 > y2, "larger values are higher up, and SVG's y points down"


def test_a_logarithmic_chart_spaces_powers_of_ten_evenly():
    (_, y0), (_, y1), (_, y2) = points_of(line_chart("t", [0, 1, 2], [1, 10, 100], "x", logarithmic=True))
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)


def test_points_without_a_value_are_left_out():
    svg = line_chart("t", [0, 1, 2, 3, 4], [1, None, math.nan, 0, 5], "x", logarithmic=True)
    assert len(points_of(svg)) == 2
    assert "too few" in line_chart("t", [0, 1], [1, None], "x")
    assert "too few" in line_chart("t", [], [], "x")


def test_a_constant_curve_can_be_drawn():
    points = points_of(line_chart("t", [0, 1], [3.0, 3.0], "x"))
    assert points[0][1] == points[1][1]


@pytest.mark.parametrize("low, high", [(0, 1), (3.2, 3.3), (-1e6, 2e6), (0, 1e-9), (17, 17.5)])
def test_ticks_are_round_and_inside(low, high):
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 11
    assert all(low - 1e-9 * abs(low) <= tick <= high * (1 + 1e-9) for tick in ticks)
    step = ticks[1] - ticks[0]
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-6)
    assert min(abs(mantissa - nice) for nice in (1, 2, 5, 10)) < 1e-3


def test_rates_and_durations():
    assert [rate(v) for v in (None, 12, 12_345, 1_200_000, 3e9)] == ["-", "12", "12.3 k", "1.2 M", "3 G"]
    assert [duration(v) for v in (None, 9.4, 65, 3725)] == ["-", "9 s", "1 min 05 s", "1 h 02 min"]


def test_plain_lines_come_at_intervals_and_at_the_end(capsys):
    lines = Lines(interval=1e6)
    state = {"seconds_left": 1.0, "psnr": 20.0, "rays_per_second": 1e3, "samples_per_second": 1e4}
    lines.start(0, 0.0)
    lines.update(step=1, share=0.5, **state)
    lines.update(step=2, share=1.0, **state)
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 1
    assert "step       2" in printed[0]
    assert "20.00 dB" in printed[0]
