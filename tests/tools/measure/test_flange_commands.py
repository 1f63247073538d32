"""`measure holes` and `measure flange` as a script meets them: the JSON's names, the report's picture, the exit codes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fieldstone.__main__ import main

from .plates import bolt_holes, plate
from .test_measure_commands import PROMISED

HOLES = [(0.0, 0.0, 14.0), *bolt_holes(8, 28.0, 5.0)]


@pytest.fixture(scope="module")
def flange_file(tmp_path_factory):
    """A flange of 40 mm radius with a bore and eight holes, 6 points per mm2, whose file names no unit."""
    path = tmp_path_factory.mktemp("flange") / "flange.npy"
    np.save(path, plate(np.random.default_rng(0), HOLES, density=6.0))
    return str(path)


@pytest.fixture(scope="module")
def plain_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "plain.npy"
    np.save(path, plate(np.random.default_rng(0), [], density=1.0))
    return str(path)


@pytest.mark.parametrize("kind", ["holes", "flange"])
def test_json_and_report_hold_the_hole_pattern(flange_file, tmp_path, capsys, kind):
    out, folder = tmp_path / "out.json", tmp_path / "report"
    arguments = ["--unit", "mm", "--json", str(out), "--report", str(folder), "--seed", "5", "--rims-only"]
    assert main(["measure", kind, flange_file, *arguments]) == 0
    document = json.loads(out.read_text())
    assert set(document) >= PROMISED
    assert (document["kind"], document["unit"], document["seed"]) == (kind, "mm", 5)
    assert document["schema"] == "fieldstone.measure/1" and document["software"]["name"] == "fieldstone"
    assert document["input"]["path"] == flange_file and len(document["input"]["sha256"]) == 64
    size = len(document["covariance_names"])
    assert np.array(document["covariance"]).shape == (size, size)
    assert np.linalg.eigvalsh(np.array(document["covariance"])).min() > -1e-12
    assert 0.9 * document["n_total"] < document["n_used"] <= document["n_total"]
    assert document["rms"] == pytest.approx(0.02, rel=0.1)
    parameters = document["parameters"]
    assert set(parameters) >= {"point", "normal", "holes", "faces"}
    small = [hole for hole in parameters["holes"] if hole["radius"] < 10]
    assert [hole["type"] for hole in small] == ["hole"] * 8
    assert [hole["radius"] for hole in small] == pytest.approx([5.0] * 8, abs=0.08)
    if kind == "flange":
        assert parameters["bore"]["radius"] == pytest.approx(14, abs=0.03)
        assert parameters["pitch_circle"]["radius"] == pytest.approx(28, abs=0.03)
        gaps = np.diff(sorted(hole["angle_deg"] for hole in small))
        assert gaps == pytest.approx([45.0] * 7, abs=0.3)
    assert "±" in capsys.readouterr().out
    html = (folder / "report.html").read_text()
    picture = html[html.index("Hole pattern") :]
    picture = picture[: picture.index("</svg>")]
    assert picture.count("<circle") >= 9  # dots of the cloud are drawn as paths, or there are thousands more
    for i in range(len(parameters["holes"])):
        assert f">{i}</text>" in picture


@pytest.mark.parametrize("kind", ["holes", "flange"])
def test_without_a_unit_it_measures_and_says_so(flange_file, tmp_path, capsys, kind):
    out = tmp_path / "out.json"
    assert main(["measure", kind, flange_file, "--rims-only", "--json", str(out)]) == 0
    document = json.loads(out.read_text())
    assert document["unit"] is None
    assert any("unit not known" in warning for warning in document["warnings"])
    assert "give --unit" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["holes", "flange"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--unit", "cubit"], "cubit"),
        (["--diameter", "8"], "--diameter 8"),
        (["--diameter", "12:8"], "12:8"),
        (["--face", "7"], "face 7"),
        (["--sigma", "-1"], "-1"),
    ],
)
def test_bad_options_are_bad_input(plain_file, capsys, kind, options, message):
    assert main(["measure", kind, plain_file, *options]) == 2
    error = capsys.readouterr().err
    assert error.count("fieldstone: error:") == 1 and message in error and "Traceback" not in error


@pytest.mark.parametrize("kind", ["holes", "flange"])
def test_missing_files_are_bad_input(tmp_path, capsys, kind):
    assert main(["measure", kind, str(tmp_path / "none.ply")]) == 2
    assert "none.ply: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["holes", "flange"])
def test_a_face_without_holes_is_not_measurable(plain_file, tmp_path, capsys, kind):
    out = tmp_path / "out.json"
    assert main(["measure", kind, plain_file, "--unit", "mm", "--json", str(out)]) == 4
    error = capsys.readouterr().err
    assert "no hole" in error and "told from gaps" in error and not out.exists()


@pytest.mark.parametrize("kind", ["holes", "flange"])
def test_holes_of_another_size_are_not_measurable(flange_file, capsys, kind):
    arguments = ["--unit", "mm", "--diameter", "15:20", "--rims-only"]
    assert main(["measure", kind, flange_file, *arguments]) == 4
    assert "the face has openings of" in capsys.readouterr().err
