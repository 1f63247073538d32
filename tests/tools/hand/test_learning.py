"""Learning from meshes with known truth, registration of scans, the command."""

import json

import numpy as np
import pytest
import trimesh

from fieldstone.__main__ import main
from fieldstone.core.errors import UserError
from fieldstone.fields.articulated import read_model
from fieldstone.fields.articulated.built_in import built_in
from fieldstone.fields.articulated.geometry import subdivide
from fieldstone.tools.hand.fitting.closest import NearestOnMesh, vertex_normals
from fieldstone.tools.hand.fitting.scan import Scan
from fieldstone.tools.hand.learning.learn import LearnSettings, Registered, learn
from fieldstone.tools.hand.learning.raw_scans import RawScan, synthetic_scans, write_scans
from fieldstone.tools.hand.learning.reading import read_items
from fieldstone.tools.hand.learning.registration import deform
from fieldstone.tools.hand.learning.shape_space import (
    learn_shape_space,
    principal_angles,
    shape_metrics,
)
from fieldstone.tools.hand.learning.synthetic import synthetic_hands


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """6 subjects x 5 poses of a hand with 4 shape directions, 0.3 mm of noise; two of the subjects' files are left hands."""
    where = tmp_path_factory.mktemp("meshes")
    true = built_in("hand")
    true = true.replace(shape_basis=true.shape_basis[:, :, :4])
    meshes = synthetic_hands(true, subjects=6, poses=5, noise=3e-4, rng=np.random.default_rng(0))
    for vertices, name in zip(meshes.vertices, meshes.names):
        subject, pose = name.split("/")
        faces = true.faces
        if subject in ("subject004", "subject005"):
            vertices, faces, pose = vertices * (-1, 1, 1), faces[:, ::-1], f"left_{pose}"
        (where / subject).mkdir(exist_ok=True)
        trimesh.Trimesh(vertices, faces, process=False).export(where / subject / f"{pose}.ply")
    return where


def test_the_command_learns_a_pair_and_reports(folder, tmp_path, capsys):
    out = tmp_path / "model.npz"
    arguments = [
        "--out",
        str(out),
        "--rounds",
        "2",
        "--shapes",
        "4",
        "--components",
        "20",
        "--held-out",
        "0.2",
    ]
    assert main(["hand", "learn", str(folder), *arguments]) == 0
    printed = capsys.readouterr().out
    assert "30 files of 6 subjects, 0 of them raw scans" in printed and "generalisation" in printed
    report = json.loads((tmp_path / "model.json").read_text())
    error = report["held_out_error_mm"]
    assert report["held_out_meshes"] == 6 and error["correctives"] < error["skinning"]
    assert any("10 files of the other hand were mirrored" in note for note in report["notes"])
    shape = report["shape"]
    assert shape["components"] == [1, 2, 3] and np.all(np.diff(shape["compactness"]) > 0)
    assert np.all(np.diff(shape["generalisation_mm"]) < 0) and report["explained"]["3"] > 0.85
    right, left = read_model(out), read_model(tmp_path / "model-left.npz")
    assert (right.side, left.side) == ("right", "left") and right.pose_components.shape == (20, 45)
    assert np.allclose(left.template, right.template * (-1, 1, 1), atol=1e-9)
    # where the true model has the joints of this template: the mean of six people is not the true mean
    apart = np.linalg.norm(right.joints - built_in("hand").joint_regressor @ right.template, axis=1)
    assert apart.mean() < 0.0012 and apart.max() < 0.0025


def test_a_raw_scan_is_registered_on_the_way(tmp_path, capsys):
    """Points of no order, 0.5 mm of noise, holes, and a surface that no shape of the model has."""
    data = built_in("hand")
    scans, truth = synthetic_scans(data, subjects=2, poses=3, kinds=("points",), rng=np.random.default_rng(4))
    folder = tmp_path / "scans"
    write_scans([RawScan(n, v, data.faces) for n, v in zip(truth.names, truth.vertices)], folder)
    write_scans(scans[-1:], folder)
    out = tmp_path / "model.npz"
    arguments = ["--out", str(out), "--registered", str(tmp_path / "registered")]
    arguments += ["--rounds", "1", "--shapes", "1", "--held-out", "0.34"]
    assert main(["hand", "learn", str(folder), *arguments]) == 0
    assert "6 files of 2 subjects, 1 of them raw scans" in capsys.readouterr().out
    report = json.loads((tmp_path / "model.json").read_text())
    assert any("1 raw scans registered" in note for note in report["notes"])
    found = trimesh.load(tmp_path / "registered" / "subject01_pose02.ply", process=False)
    apart = NearestOnMesh(data.faces, len(data.template), around=8)(truth.vertices[-1], found.vertices)[2]
    assert apart.mean() < 4e-4 and np.percentile(apart, 95) < 1e-3
    assert np.linalg.norm(found.vertices - truth.vertices[-1], axis=1).mean() < 2e-3
    assert report["held_out_meshes"] == 2 and report["held_out_error_mm"]["correctives"] < 2


def test_one_mesh_a_subject_gives_shapes_and_no_correctives():
    true = built_in("hand")
    meshes = synthetic_hands(true, subjects=5, poses=1, noise=0, rng=np.random.default_rng(1))
    settings = LearnSettings(rounds=1, shapes=3, vertices=120, regressor=False)
    learned = learn(true, meshes, settings, rng=np.random.default_rng(0))
    assert not learned.data.pose_correctives.any() and learned.data.shape_basis.shape[2] == 3
    assert learned.report["held_out_error_mm"] == {"skinning": None, "correctives": None}
    assert len(learned.report["notes"]) == 2


def test_a_bent_surface_meets_the_scan():
    data = built_in("hand")
    fine = subdivide(data, 1, rule="loop")
    middle = fine.template.mean(0)
    scan = fine.template + 0.004 * np.sin((fine.template - middle) / 0.03)  # no shape of the model
    normals = vertex_normals(scan, fine.faces)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(scan))[:3000]
    noisy = scan[order] + rng.normal(0, 2e-4, (3000, 3))
    vertices, distance = deform(data.template, data.faces, Scan(noisy, normals[order]))
    truth = data.template + 0.004 * np.sin((data.template - middle) / 0.03)
    before = np.linalg.norm(data.template - truth, axis=1).mean()
    assert np.mean(distance) < 2.5e-4 < 4e-3 < before
    assert np.linalg.norm(vertices - truth, axis=1).mean() < 0.4 * before


@pytest.mark.parametrize("count", [1, 2])
def test_metrics_of_a_space_that_is_known(count):
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(60, 2)))[0]
    templates = (rng.normal(size=(40, 2)) @ (basis * (3, 1)).T).reshape(40, 20, 3)
    metrics = shape_metrics(templates, (count,), rng, samples=20)
    space = learn_shape_space(templates, 2)
    assert (metrics["generalisation"][0] < 1e-12) == (count == 2)
    assert (metrics["compactness"][0] > 1 - 1e-12) == (count == 2)
    assert metrics["specificity"][0] > 0
    assert np.degrees(principal_angles(basis, space.basis.reshape(60, 2))).max() < 1e-4
    assert np.allclose(space.coefficients.std(0, ddof=1), 1)


def test_what_is_read_from_a_folder(tmp_path):
    data = built_in("hand")
    mesh = trimesh.Trimesh(data.template * 1e3, data.faces, process=False)
    mesh.export(tmp_path / "ann_a.obj")
    mesh.export(tmp_path / "ben_a.stl")
    trimesh.PointCloud(data.template * 1e3).export(tmp_path / "cat_a.ply")
    items = read_items(tmp_path, data, unit="mm")
    assert [item.subject for item in items] == ["ann", "ben", "cat"]
    assert [item.registered for item in items] == [True, False, False]
    assert np.abs(items[0].vertices - data.template).max() < 1e-6
    assert len(items[1].vertices) == 1581 and len(items[1].faces) == len(data.faces)
    assert items[2].scan().signed is False and items[1].scan().signed


@pytest.mark.parametrize(
    "files, words",
    [
        ({}, ["no meshes"]),
        ({"a_1.obj": "v 0 0 0\nv 1 0 0\nv nan 0 1\nf 1 2 3\n"}, ["a_1.obj", "finite", "nan"]),
        ({"a_1.ply": "ply\nformat ascii 1.0\nelement vertex 9"}, ["a_1.ply", "not a readable mesh"]),
        ({"a_1.obj": "v 0 0 0\nv 1 0 0\nv 0 0 1\nf 1 2 3\n"}, ["at least 2 subjects", "found 1 (a)"]),
        (
            {f"{name}_1.obj": "v 0 0 0\nv 1 0 0\nv 0 0 1\nf 1 2 3\n" for name in "ab"},
            ["a_1", "at least 50 points"],
        ),
    ],
)
def test_bad_folders_are_one_line(tmp_path, files, words, capsys):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert main(["hand", "learn", str(tmp_path), "--out", str(tmp_path / "m.npz")]) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in words) and error.count("\n") == 1, error


def test_meshes_of_another_topology_are_told():
    data = built_in("hand")
    with pytest.raises(UserError, match=r"\(n, 1581, 3\).*found \(3, 20, 3\)"):
        learn(data, Registered(np.zeros((3, 20, 3)), np.arange(3)), rng=np.random.default_rng(0))
    bad = np.zeros((3, 1581, 3))
    bad[1, 5, 0] = np.nan
    with pytest.raises(UserError, match="NaN or infinity in mesh two"):
        learn(
            data,
            Registered(bad, np.arange(3), ("one", "two", "three")),
            rng=np.random.default_rng(0),
        )
    with pytest.raises(UserError, match="2 subjects, found 1"):
        learn(data, Registered(np.zeros((3, 1581, 3)), np.zeros(3, int)), rng=np.random.default_rng(0))
