"""Scenes of mesh primitives edited without training."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

import fieldstone as fs
from fieldstone.__main__ import main
from fieldstone.core.errors import UserError
from fieldstone.core.similarity import Similarity
from fieldstone.datasets.synthetic.street_files import street_cameras
from fieldstone.fields.activations import elementwise
from fieldstone.fields.primitives import PrimitiveAppearance
from fieldstone.render.rasterise import fragments
from fieldstone.tools.editing.arrangement import Arrangement
from fieldstone.tools.editing.colour import LUMINANCE, toward_colour
from fieldstone.tools.editing.pairing import nearest, one_to_one
from fieldstone.tools.editing.placed import linear_from_srgb, srgb_from_linear
from fieldstone.tools.editing.selection import Selectable, ids_text, parse_ids, parse_terms, select


@pytest.fixture
def run(whole):
    """Opened anew, so that no test sees what another did to its scene."""
    return fs.load_run(whole.folder)


CAMERAS = street_cameras(9, 96, 32, shift=0.3)


def met(scene, cameras, index, ids):
    """(h, w) bool: which pixels' layers hold one of the primitives."""
    camera = cameras[index].transformed(scene.frame)
    found = fragments(
        scene.primitives.vertices, scene.primitives.faces, camera, scene.layers, back_faces=False
    )
    number = scene.ids[(found.face.long() // 80).clamp_min(0)]
    return (torch.isin(number, torch.as_tensor(np.asarray(ids))) & found.mask).any(-1)


def test_what_is_deleted_is_gone_and_nothing_else_changes(run, tmp_path):
    ids, middles = fs.select_primitives(run, {"label": "car"})
    assert 10 < len(ids) < 0.2 * len(run.scene().ids)
    # parked beside the road, above it, and of the height of cars
    assert (np.abs(middles[:, 1]) > 1.3).all() and (middles[:, 2] < 2.2).all()
    source = {path: path.read_bytes() for path in run.folder.glob("*.*")}
    edited = fs.edit_scene(run, tmp_path / "without", [{"do": "delete", "select": {"label": "car"}}])
    assert {path: path.read_bytes() for path in run.folder.glob("*.*")} == source
    changed = 0
    for index in (1, 5):
        before = run.scene().render_view(CAMERAS, index, normals=True)
        after = fs.load_run(edited.folder).scene().render_view(CAMERAS, index, normals=True)
        touched = met(run.scene(), CAMERAS, index, ids)
        for name in before:  # bit for bit
            assert torch.equal(before[name][~touched], after[name][~touched]), name
        assert not torch.isin(after["primitive"], torch.from_numpy(ids)).any()
        gone = torch.isin(before["primitive"], torch.from_numpy(ids)) & (before["opacity"] > 0.9)
        solid = gone & (after["opacity"] > 0.9)
        assert (after["z_depth"][solid] > before["z_depth"][solid] - 1e-4).all()  # what is behind is farther
        changed += int((before["colour"] != after["colour"]).any(-1)[gone].sum())
        assert (before["colour"] != after["colour"]).any(-1)[gone].all()
    assert changed > 20


def test_a_copy_looks_from_its_place_as_the_original_does(run, tmp_path, monkeypatch):
    # the sky does not turn with the copy
    monkeypatch.setattr(PrimitiveAppearance, "sky", lambda self, directions: torch.zeros_like(directions))
    motion = Similarity(1.2, Rotation.from_rotvec([0.1, -0.2, 2.0]).as_matrix(), np.array([3.0, 200.0, 20.0]))
    count = len(run.scene().ids)
    edits = [
        {"do": "duplicate", "select": {"all": True}, "matrix": motion.matrix().tolist()},
        {"do": "delete", "select": {"ids": f"0-{count - 1}"}},
    ]
    edited = fs.edit_scene(run, tmp_path / "moved", edits)
    poses = torch.from_numpy(motion.apply_to_poses(CAMERAS.camera_to_world.numpy()))
    moved = replace(CAMERAS, camera_to_world=poses)
    assert edited.scene().ids.tolist() == list(range(count, 2 * count))
    for index in (0, 4):
        before = run.scene().render_view(CAMERAS, index, normals=True)
        after = edited.scene().render_view(moved, index, normals=True)
        # not at edges, where rounding decides
        solid = ((before["opacity"] - after["opacity"]).abs() < 1e-3) & (before["opacity"] > 0.1)
        assert solid.float().mean() > 0.95 * (before["opacity"] > 0.1).float().mean() > 0.3
        # products in bfloat16 round directions that differ in the last bits apart
        assert (before["colour"] - after["colour"]).abs()[solid].max() < 0.02
        assert (before["colour"] - after["colour"]).abs()[solid].mean() < 2e-3
        ratio = (after["z_depth"] / before["z_depth"])[solid]
        assert (ratio - 1.2).abs().quantile(0.99) < 1e-3
        turned = before["normals"] @ torch.from_numpy(motion.rotation).float().T
        assert (turned * after["normals"]).sum(-1)[solid].quantile(0.02) > 0.999
        # a scene whose looks stayed behind when it was turned would differ
        still = edited.scene()
        still.primitives = still.primitives._replace(
            placed=still.primitives.placed._replace(turn=torch.zeros_like(still.primitives.placed.turn))
        )
        other = still.render_view(moved, index)
        error = (before["colour"] - after["colour"]).abs()[solid].mean()
        assert (before["colour"] - other["colour"]).abs()[solid].mean() > 3 * error
        edited = fs.load_run(edited.folder)


def test_recoloured_things_come_to_the_mean_colour_and_keep_their_relief(run, tmp_path):
    wanted = [0.2, 0.35, 0.6]
    select_road = {"label": "road", "scale": 0}
    edited = fs.edit_scene(
        run, tmp_path / "blue", [{"do": "recolour", "select": select_road, "colour": wanted}]
    )
    ids, _ = fs.select_primitives(run, select_road)
    capture = run.cameras_only
    sums = {"before": [], "after": []}
    for index in capture.splits["train"]:
        views = {"before": run.scene(), "after": edited.scene()}
        views = {name: scene.render_view(capture.cameras, int(index)) for name, scene in views.items()}
        ours = torch.isin(views["before"]["primitive"], torch.from_numpy(ids))
        assert torch.equal(views["before"]["primitive"], views["after"]["primitive"])
        for name, view in views.items():
            sums[name].append(linear_from_srgb(view["colour"][ours]))
    before, after = (torch.cat(parts).mean(0) for parts in sums.values())
    target = linear_from_srgb(torch.tensor(wanted))
    # other layers are in those pixels too, so not all the way
    assert (after - target).norm() < 0.4 * (before - target).norm()
    untouched = ~met(run.scene(), CAMERAS, 3, ids)
    assert torch.equal(
        run.scene().render_view(CAMERAS, 3)["colour"][untouched],
        edited.scene().render_view(CAMERAS, 3)["colour"][untouched],
    )


def test_the_recolouring_map_brings_the_mean_where_it_is_wanted():
    generator = np.random.default_rng(0)
    for mean in ([0.3, 0.1, 0.05], [0.004, 0.003, 0.002], [0.9, 0.9, 0.8]):
        colours = np.array(mean) * generator.uniform(0.5, 1.5, (1000, 1))
        affine = toward_colour(colours.mean(0), [0.1, 0.5, 0.8], 0.7)
        target = linear_from_srgb(torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)).numpy()
        mapped = colours @ affine[:, :3].T + affine[:, 3]
        np.testing.assert_allclose(mapped.mean(0), 0.3 * colours.mean(0) + 0.7 * target, atol=1e-9)
        relief = np.corrcoef(colours @ LUMINANCE, mapped @ LUMINANCE)[0, 1]
        assert relief > 0.999
    colours = torch.linspace(0, 1, 100)
    torch.testing.assert_close(srgb_from_linear(linear_from_srgb(colours)), colours, atol=1e-5, rtol=0)


def test_looks_pass_from_one_thing_to_another_and_back(run, tmp_path):
    seen = run.scene().render_view(CAMERAS, 4)["primitive"].unique().numpy()
    road, wall = (
        np.intersect1d(fs.select_primitives(run, {"label": label})[0], seen) for label in ("road", "building")
    )
    count = min(len(road), len(wall), 60)
    some, others = ({"ids": ids_text(ids[:count])} for ids in (road, wall))
    swap = {"do": "swap", "select": some, "with": others}
    once = fs.edit_scene(run, tmp_path / "once", [swap])
    twice = fs.edit_scene(once, tmp_path / "twice", [swap])
    before, after, again = (each.scene().render_view(CAMERAS, 4) for each in (run, once, twice))
    ours = torch.isin(before["primitive"], torch.from_numpy(np.concatenate([road[:count], wall[:count]])))
    assert (before["colour"] != after["colour"]).any(-1)[ours].float().mean() > 0.9
    assert torch.equal(before["colour"], again["colour"])
    dressed = fs.edit_scene(
        run, tmp_path / "dressed", [{"do": "dress", "select": some, "with": {"label": "building"}}]
    )
    done = json.loads((dressed.folder / "edits.json").read_text())["edits"][0]["done"]
    assert len(done["with"]) == count and set(done["with"]) <= set(
        fs.select_primitives(run, {"label": "building"})[0].tolist()
    )


def test_the_command_edits_lists_and_replays(run, tmp_path, capsys):
    box = "box=-5,-1.5,-1,40,1.5,0.6"
    assert main(["edit-scene", str(run.folder), "--select", box, "scale=1"]) == 0
    out = capsys.readouterr().out
    assert "primitives, middles from" in out and "ids=" in out
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    command = ["edit-scene", str(run.folder), "--out", first, "--select", box, "--duplicate"]
    assert main([*command, "--translate", "0", "-30", "0", "--rotate", "0", "0", "90"]) == 0
    assert main(["edit-scene", str(run.folder), "--out", second, "--edits", f"{first}/edits.json"]) == 0
    assert f"duplicate: {len(fs.load_run(first).scene().ids) - len(run.scene().ids)} primitives" in (
        capsys.readouterr().out
    )
    stored = [json.loads((tmp_path / name / "edits.json").read_text()) for name in ("first", "second")]
    assert stored[0]["edits"] == stored[1]["edits"] and not str(stored[0]["source"]).startswith("/")
    views = [fs.load_run(folder).scene().render_view(CAMERAS, 2)["colour"] for folder in (first, second)]
    assert torch.equal(*views)
    # numbers stay: a copy has new ones, also in the mesh, and none is given twice
    mesh = fs.export_mesh(first, tmp_path / "first.ply")
    numbers = np.unique(np.asarray(mesh.vertex_attributes["primitive"]))
    assert numbers.max() >= len(run.scene().ids)
    copies = np.asarray(mesh.vertices)[mesh.vertex_attributes["primitive"] >= len(run.scene().ids)]
    assert copies[:, 1].max() < 0 and len(copies) % 42 == 0
    assert len(trimesh.load(tmp_path / "first.ply", process=False).faces) == len(mesh.faces)
    deleted = fs.edit_scene(first, tmp_path / "third", [{"do": "delete", "select": {"ids": "0-3"}}])
    assert deleted.scene().ids[0] == 4
    fs.render_views(deleted, "dataset", tmp_path / "views", split="test")
    assert len(list((tmp_path / "views").glob("*.png"))) == 8
    assert fs.evaluate(deleted)["psnr"] > 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--select", "box=900,0,0,901,1,1", "--delete"], "no primitive fits"),
        (["--select", "ids=3,999999", "--delete"], "no primitive 999999; they are numbered from 0"),
        (["--select", "ids=7-3", "--delete"], "ids '7-3'"),
        (["--select", "label=unicorn", "--delete"], "no class 'unicorn'; here are"),
        (["--select", "scale=9", "--delete"], "scale 9; there are 0 to"),
        (["--select", "colour=red", "--delete"], "write box="),
        (["--select", "box=1,2,3", "--delete"], "give 6 finite numbers"),
        (["--select", "all=true", "--delete"], "nothing would be left"),
        (["--select", "all=true", "--move"], "say where to"),
        (["--select", "all=true", "--move", "--translate", "nan", "0", "0"], "translate .* finite"),
        (["--select", "all=true", "--recolour", "2,0,0"], "colour .* finite numbers from 0 to 1"),
        (["--select", "ids=1-3", "--swap", "ids=4-5"], "3 and 2 primitives"),
        (["--select", "ids=1-3", "--swap", "ids=3-5"], "in common"),
        (["--select", "all=true", "--delete", "--translate", "1", "0", "0"], "goes with --duplicate or --move"),
        (["--select", "all=true"], "say what to do"),
        (["--delete"], "say which primitives"),
        (["--edits", "nowhere.json"], "cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_in_one_line(run, tmp_path, capsys, arguments, message):
    assert main(["edit-scene", str(run.folder), "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and not (tmp_path / "out").exists()
    assert re.search(message, error)


def test_other_runs_and_matrices_are_refused(run, tmp_path, capsys):
    def edit(**keys):
        return fs.edit_scene(run, tmp_path / "out", [{"select": {"all": True}, **keys}])

    flat, mirror, shear = np.eye(4), np.diag([-1.0, 1, 1, 1]), np.eye(4)
    flat[0, 0], shear[0, 1] = np.nan, 0.3
    for matrix, message in ((flat, "finite"), (mirror, "mirrors"), (shear, "shear"), (np.eye(3), "4 x 4")):
        with pytest.raises(UserError, match=message):
            edit(do="move", matrix=matrix.tolist())
    with pytest.raises(UserError, match="unknown key 'colour'"):
        edit(do="delete", colour=[1, 0, 0])
    with pytest.raises(UserError, match='"do" is one of'):
        edit(do="paint")
    with pytest.raises(UserError, match="already holds a run"):
        fs.edit_scene(run, run.folder, [{"do": "delete", "select": {"ids": "1"}}])
    other = tmp_path / "other"
    other.mkdir()
    config = run.config | {"method": "hash-grid", "settings": {}}
    (other / "config.json").write_text(json.dumps(config))
    assert (
        main(["edit-scene", str(other), "--out", str(tmp_path / "out"), "--select", "ids=1", "--delete"]) == 2
    )
    assert "method hash-grid; only scenes of method dnmp" in capsys.readouterr().err
    edited = fs.edit_scene(run, tmp_path / "out", [{"do": "delete", "select": {"ids": "1"}}])
    with pytest.raises(UserError, match="keeps no optimiser"):
        fs.train_scene(out=edited.folder, resume=True)
    with pytest.raises(UserError, match="primitive 1 is not there any more"):
        fs.edit_scene(edited, tmp_path / "again", [{"do": "delete", "select": {"ids": "0-2"}}])


def test_selections_mean_what_they_say():
    generator = np.random.default_rng(1)
    centres = generator.uniform(-2, 2, (300, 3))
    scale = generator.integers(0, 2, 300)
    kinds = generator.integers(-1, 3, 300)
    scene = Selectable(
        np.arange(300) * 2, centres, scale, lambda: (kinds, {0: "road", 1: "car", 2: "van"}), 600
    )
    rows = select(parse_terms(["box=1,-1,-2,-1,1,2", "scale=1"]), scene)
    wanted = (np.abs(centres[:, :2]) <= 1).all(1) & (scale == 1)
    assert rows.tolist() == np.flatnonzero(wanted).tolist()
    turned = select(parse_terms(["oriented-box=0,0,0,2,1,4,0,0,45"]), scene)
    u = (centres[:, 0] + centres[:, 1]) / 2**0.5
    v = (centres[:, 1] - centres[:, 0]) / 2**0.5
    assert turned.tolist() == np.flatnonzero((np.abs(u) <= 1) & (np.abs(v) <= 0.5)).tolist()
    assert (kinds[select({"label": ["car", "van"]}, scene)] > 0).all()
    assert select({"ids": [4, 8, 10]}, scene).tolist() == [2, 4, 5]
    assert ids_text(parse_ids("3, 5-8,12")) == "3,5-8,12"


def test_arrangements_keep_numbers_and_compose():
    start = Arrangement.of(np.array([True, False, True, True]))
    assert start.ids.tolist() == [0, 2, 3] and start.given == 4
    turn = Similarity(2.0, Rotation.from_rotvec([0, 0, 0.5]).as_matrix(), np.array([1.0, 2, 3]))
    two = start.copied(np.array([0, 2]), turn).moved(np.array([0, 3]), turn)
    assert two.ids.tolist() == [0, 2, 3, 4, 5] and two.shape.tolist() == [0, 2, 3, 0, 3]
    points = np.random.default_rng(0).normal(size=(4, 3))
    expected = [
        turn.apply(points[0]),
        points[2],
        points[3],
        turn.apply(turn.apply(points[0])),
        turn.apply(points[3]),
    ]
    np.testing.assert_allclose(two.middles(points), expected)
    less = two.without(two.rows(np.array([2, 4])))
    assert less.ids.tolist() == [0, 3, 5] and less.copied(np.array([0]), turn).ids.tolist()[-1] == 6
    with pytest.raises(ValueError):
        less.rows(np.array([2]))
    half = np.column_stack([0.5 * np.eye(3), [0.1, 0, 0]])
    tinted = less.tinted(np.array([0, 1]), half).tinted(np.array([1]), half)
    np.testing.assert_allclose(tinted.tints[tinted.tint[1]] @ [1, 1, 1, 1], [0.4, 0.25, 0.25])
    np.testing.assert_allclose(tinted.tints[tinted.tint[2]], np.eye(3, 4))
    dressed = tinted.dressed(np.array([2]), np.array([1]))
    assert dressed.look.tolist() == [0, 3, 3] and dressed.tint[2] == tinted.tint[1]


def test_parts_of_two_things_are_paired_by_their_place():
    generator = np.random.default_rng(0)
    car = generator.uniform(size=(40, 3)) * [4, 2, 1.5]
    scale = generator.integers(0, 2, 40)
    order = generator.permutation(40)
    other = car[order] * [2.0, 1, 1] + [30, -4, 1]
    assert (order[one_to_one(car, scale, other, scale[order])] == np.arange(40)).all()
    found = nearest(car, scale, other, scale[order])
    assert (scale[order][found] == scale).all() and (order[found] == np.arange(40)).mean() > 0.9


def test_an_element_has_the_same_bits_wherever_it_stands():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 70_001, generator=generator).t()
    for function in (torch.sigmoid, torch.exp, torch.sin):
        whole = elementwise(function, values)
        torch.testing.assert_close(whole, function(values))
        for _ in range(5):
            some = torch.rand(len(values), generator=generator) < torch.rand(1, generator=generator)
            assert torch.equal(elementwise(function, values[some]), whole[some])
    assert elementwise(torch.exp, torch.zeros(0, 3)).shape == (0, 3)
    free = torch.zeros(5, requires_grad=True)
    elementwise(torch.sigmoid, free).sum().backward()
    torch.testing.assert_close(free.grad, torch.full((5,), 0.25))
