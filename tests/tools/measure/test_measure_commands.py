"""The `measure` commands as a script meets them: the JSON's names, the exit codes, one-line errors."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fieldstone.__main__ import main
from fieldstone.tools import measure
from fieldstone.tools.measure.commands import COMMANDS
from fieldstone.tools.measure.frame import Frame
from fieldstone.tools.measure.ideal import ideal_points

PROMISED = {
    "schema",
    "kind",
    "unit",
    "parameters",
    "covariance",
    "rms",
    "n_used",
    "n_total",
    "warnings",
    "input",
    "software",
}
PARAMETERS = {
    "line": {"point", "direction"},
    "plane": {"point", "normal"},
    "circle": {"centre", "normal", "radius"},
    "sphere": {"centre", "radius"},
    "cylinder": {"axis_point", "axis_direction", "radius"},
    "cone": {"axis_point", "axis_direction", "radius", "half_angle_deg", "apex"},
    "torus": {"centre", "axis_direction", "major_radius", "minor_radius"},
}
SIZES = {"torus": (20.0, 4.0), "cone": (8.0, 0.4)}


@pytest.fixture
def files(tmp_path):
    """A point file for each primitive, in mm, without a unit."""

    def write(name):
        rng = np.random.default_rng(0)
        frame = Frame.from_axis([5, 6, 7], [0.2, 0.3, 0.9], SIZES.get(name, (8.0, 0.0)))
        points, normals = ideal_points(name, frame, 600, rng, length=15)
        path = tmp_path / f"{name}.npy"
        np.save(path, points + 0.01 * rng.standard_normal((600, 1)) * normals)
        return path

    return write


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_json_has_the_names_that_scripts_rely_on(files, tmp_path, capsys, name):
    out = tmp_path / "out.json"
    assert main(["measure", name, str(files(name)), "--unit", "mm", "--json", str(out), "--seed", "3"]) == 0
    document = json.loads(out.read_text())
    assert set(document) >= PROMISED
    assert (
        document["schema"] == "fieldstone.measure/1" and document["kind"] == name and document["unit"] == "mm"
    )
    assert set(document["parameters"]) == PARAMETERS[name]
    assert set(document["input"]) == {"path", "sha256"} and len(document["input"]["sha256"]) == 64
    assert document["software"]["name"] == "fieldstone" and document["seed"] == 3
    k = len(document["covariance_names"])
    assert np.array(document["covariance"]).shape == (k, k)
    assert set(document["standard_uncertainty"]) == set(document["covariance_names"])
    assert "±" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_file(files, tmp_path):
    path = files("cylinder")
    for name in ("a.json", "b.json"):
        main(["measure", "cylinder", str(path), "--unit", "mm", "--json", str(tmp_path / name)])
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()


def test_norms_regions_and_reports(files, tmp_path):
    path, out = files("sphere"), tmp_path / "out.json"
    command = [
        "measure",
        "sphere",
        str(path),
        "--unit",
        "mm",
        "--norm",
        "minimum-circumscribed",
        "--json",
        str(out),
    ]
    assert main([*command, "--report", str(tmp_path / "report"), "--ball", "5", "6", "7", "9"]) == 0
    document = json.loads(out.read_text())
    assert document["extras"]["norm"] == "minimum-circumscribed" and document["parameters"]["radius"] > 8
    assert "Deviation map" in (tmp_path / "report/report.html").read_text()
    assert main([*command, "--ball", "500", "6", "7", "9"]) == 4  # no point there
    assert main([*command, "--box", "1", "1", "1", "0", "0", "0"]) == 2  # no box
    assert (
        main(["measure", "circle", str(files("circle")), "--unit", "mm", "--method", "plane-then-circle"])
        == 0
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["plane", "none.ply"], 2), (["plane", "{sphere}", "--unit", "cubit"], 2), (["plane", "{sphere}", "--sigma", "-1"], 2),
     (["cylinder", "{line}", "--unit", "mm"], 4), (["decode", "nowhere"], 2), (["tolerances", "no.yaml", "{sphere}"], 2)],
)  # fmt: skip
def test_errors_are_one_line_and_have_their_codes(files, capsys, arguments, code):
    arguments = [str(files(a[1:-1])) if a.startswith("{") else a for a in arguments]
    assert main(["measure", *arguments]) == code
    error = capsys.readouterr().err
    assert error.count("fieldstone: error:") == 1 and "Traceback" not in error


def test_every_command_has_help_and_the_common_options(capsys):
    for command in COMMANDS:
        with pytest.raises(SystemExit) as stop:
            main(["measure", command.NAME, "--help"])
        assert stop.value.code == 0
        text = capsys.readouterr().out
        for option in ("--unit", "--json", "--report", "--seed"):
            assert option in text, (command.NAME, option)


def test_python_has_what_the_page_promises():
    for name in (
        "read",
        "fit_plane",
        "fit_circle",
        "fit_cylinder",
        "fit_thread",
        "find_holes",
        "NotMeasurable",
    ):
        assert callable(getattr(measure, name))
    assert set(measure.__all__) <= set(dir(measure))
    with pytest.raises(AttributeError):
        measure.fit_banana  # noqa: B018
