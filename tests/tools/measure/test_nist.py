"""The comparison with NIST's reference pairs: on pairs made by an independent solver, and on the real one where it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import least_squares

from fieldstone.__main__ import main
from fieldstone.core.errors import UserError
from fieldstone.tools.measure.frame import Frame
from fieldstone.tools.measure.ideal import ideal_points
from fieldstone.tools.measure.nist import compare, kind_of, verify

REAL = Path(__file__).resolve().parents[4] / "shared/data/metrology/nist"
POINT, AXIS = np.array([12.0, -7.0, 30.0]), np.array([0.2, 0.5, 0.8]) / np.linalg.norm([0.2, 0.5, 0.8])
SHAPES = {  # name: sizes of the frame, what is seen, points
    "lin1": ((), {"length": 50.0}, 12),
    "pla1": ((), {"length": 40.0}, 15),
    "sph1": ((20.0,), {}, 25),
    "cyl1": ((15.0,), {"length": 40.0, "arc": 2.5}, 30),
    "con1": ((15.0, 0.35), {"length": 30.0}, 40),
    "cir1": ((18.0,), {"arc": 3.5}, 14),
}
PRIMITIVE = {
    "lin": "line",
    "pla": "plane",
    "sph": "sphere",
    "cyl": "cylinder",
    "con": "cone",
    "cir": "circle",
}


def residuals(kind, x, points):
    """Distances, parametrised as NIST's files are: point, direction (not unit), size, angle; nothing shared with our fits."""
    away = points - x[:3]
    if kind == "sph":
        return np.linalg.norm(away, axis=1) - x[3] / 2
    d = x[3:6] / np.linalg.norm(x[3:6])
    along = away @ d
    radial = np.linalg.norm(away - along[:, None] * d, axis=1)
    if kind == "pla":
        return along
    if kind == "lin":
        return (away - along[:, None] * d).ravel()
    if kind == "cyl":
        return radial - x[6] / 2
    half = np.radians(x[7] / 2)
    return radial * np.cos(half) - along * np.sin(half) - x[6]


def solve(kind, x, points):
    """The minimum to rounding: least squares from near, with the free slide and length of the direction held by tiny weights."""
    for _ in range(4):
        anchor = x.copy()

        def function(y, anchor=anchor):
            return np.concatenate([residuals(kind, y, points), 1e-4 * (y - anchor) if kind != "sph" else []])

        x = least_squares(function, x, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15).x
        if kind != "sph":
            x[3:6] /= np.linalg.norm(x[3:6])
    return x


def write_pair(folder, name):
    kind = name[:3]
    sizes, shape, count = SHAPES[name]
    rng = np.random.default_rng(sum(map(ord, name)))
    frame = Frame.from_axis(POINT, AXIS, sizes)
    points, normals = ideal_points(PRIMITIVE[kind], frame, count, rng, **shape)
    points = np.round(
        points
        + rng.uniform(-0.02, 0.02, (count, 1)) * normals
        + (0.01 * rng.standard_normal((count, 3)) if kind in ("lin", "cir") else 0),
        5,
    )
    if kind == "cir":  # in two steps: the plane, then the circle across it
        centre = points.mean(axis=0)
        normal = np.linalg.svd(points - centre)[2][2]
        x, y = np.linalg.svd(points - centre)[2][:2]
        flat = np.column_stack([(points - centre) @ x, (points - centre) @ y])
        found = least_squares(
            lambda p: np.hypot(flat[:, 0] - p[0], flat[:, 1] - p[1]) - p[2], [*(np.linalg.lstsq(np.column_stack([2 * flat, np.ones(count)]), (flat**2).sum(1), rcond=None)[0][:2]), sizes[0]],
            method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15,
        ).x  # fmt: skip
        fit = [*(centre + found[0] * x + found[1] * y), *normal, 2 * found[2]]
    else:
        start = {
            "sph": [*POINT, 40.0],
            "cyl": [*POINT, *AXIS, 30.0],
            "con": [*POINT, *AXIS, 15.0 * 1.0, np.degrees(0.7)],
        }
        fit = solve(kind, np.array(start.get(kind, [*POINT, *AXIS])), points)
    (folder / f"{name}.ds").write_text(
        f"{count}\n" + "\n".join(" ".join(f"{v:.5f}" for v in p) for p in points)
    )
    (folder / f"{name}.fit").write_text("\n".join(f"{v:.15g}" for v in fit))


@pytest.mark.parametrize("name", SHAPES)
def test_an_independent_solver_finds_the_same(tmp_path, name):
    write_pair(tmp_path, name)
    found = compare(tmp_path / f"{name}.ds")
    assert found["kind"] == PRIMITIVE[name[:3]]
    assert max(found["position"], found["angle"], found["size"]) < 1e-7


def test_the_command_counts_what_fails(tmp_path, capsys):
    for name in ("sph1", "pla1"):
        write_pair(tmp_path, name)
    (tmp_path / "oddity.ds").write_text("1\n0 0 0\n")
    (tmp_path / "oddity.fit").write_text("1 2 3\n")
    assert main(["measure", "verify-nist", str(tmp_path)]) == 0
    assert "oddity.ds: kind not recognised" in capsys.readouterr().err
    values = (tmp_path / "sph1.fit").read_text().split()
    (tmp_path / "sph1.fit").write_text("\n".join([*values[:3], str(float(values[3]) + 1e-5)]))
    assert main(["measure", "verify-nist", str(tmp_path)]) == 1
    result = verify(tmp_path)
    assert result.parameters["failed"] == 1 and result.parameters["largest_size"] == pytest.approx(
        1e-5, rel=1e-3
    )


def test_folders_without_pairs_and_damaged_references_are_bad_input(tmp_path):
    with pytest.raises(UserError, match="no pair"):
        verify(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        verify(tmp_path / "none")
    write_pair(tmp_path, "sph1")
    (tmp_path / "sph1.fit").write_text("1 2\n")
    with pytest.raises(UserError, match="2 numbers; the fit of a sphere has 4"):
        verify(tmp_path)
    (tmp_path / "sph1.fit").write_text("1 2 three 4\n")
    with pytest.raises(UserError, match="holds numbers only"):
        verify(tmp_path)
    assert kind_of(Path("Cylinder/x12.ds")) == "cylinder" and kind_of(Path("a/b.ds")) is None


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no reference pairs in {REAL}")
def test_the_pair_of_nist_agrees():
    result = verify(REAL, 1e-9)
    assert result.parameters["pairs"] >= 1 and result.parameters["failed"] == 0
