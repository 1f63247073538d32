"""Large scenes in blocks: planned, trained apart, joined while they are rendered."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import fieldstone as fs
from fieldstone import datasets
from fieldstone.__main__ import main
from fieldstone.core.errors import UserError
from fieldstone.datasets.block import Block
from fieldstone.datasets.synthetic.street_files import street_cameras
from fieldstone.tools.blocks.plan import plan_blocks, read_blocks, within
from fieldstone.tools.blocks.scene import HELD, BlockScene, _outside, scene_of
from fieldstone.tools.editing.parts import load_part, trained_places
from fieldstone.tools.training.run import Run

from .conftest import SETTINGS

FRAMES, STEPS = 17, 120


@pytest.fixture(scope="module")
def joined(street, tmp_path_factory):
    out = tmp_path_factory.mktemp("joined") / "street"
    command = ["train-scene", str(street), "--out", str(out), "--method", "dnmp", "--block-size", "9"]
    for key, value in SETTINGS.items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    assert main([*command, "--steps", str(STEPS), "--quiet"]) == 0
    return Run.open(out)


def test_two_blocks_look_like_one_training(joined, whole):
    assert len(joined.config["blocks"]) == 2 and not joined.checkpoint_path.exists()
    scene, other = joined.scene(), whole.scene()
    assert isinstance(scene, BlockScene)
    # each place of the whole scene has one primitive, from the block that owns it
    parts = [trained_places(part) for part in scene.parts]
    together = np.concatenate([part.centres[part.there] for part in parts])
    alone = trained_places(whole).centres
    assert len(np.unique(together.round(3), axis=0)) == len(together)
    both = {tuple(row) for row in together.round(2)} & {tuple(row) for row in alone.round(2)}
    assert len(both) > 0.97 * max(len(together), len(alone))
    apart, at_once = fs.evaluate(joined), fs.evaluate(whole)
    assert apart["psnr"] > at_once["psnr"] - 1.0
    # across the border: frames 7 to 10 stand around it
    cameras = street_cameras(FRAMES, 96, 32, shift=0.2)
    steps = []
    for frame in (7, 8, 9, 10):
        mine, theirs = (each.render_view(cameras, frame)["colour"] for each in (scene, other))
        steps.append(float((mine - theirs).square().mean()))
    assert -10 * np.log10(np.mean(steps)) > 18


def test_joining_is_what_rasterising_all_at_once_finds(joined):
    """Both blocks as one mesh, block 0's looks standing in for both: the same surfaces, layer by layer."""
    scene = scene_of(joined)
    camera = street_cameras(FRAMES, 96, 32)[6]
    view = scene.render_view(camera, 0, normals=True)
    from fieldstone.render.rasterise import fragments

    vertices, faces, ids = [], [], []
    for number in range(2):
        part = scene.part(number)
        shift = torch.from_numpy(part.frame.inverse().translation)
        faces.append(part.primitives.faces + sum(len(v) for v in vertices))
        vertices.append((part.primitives.vertices.double() + shift).float())
        ids.append(part.ids)
    found = fragments(torch.cat(vertices), torch.cat(faces), camera, part.layers, back_faces=False)
    nearest = torch.cat(ids)[(found.face[..., 0].long() // 80).clamp_min(0)]
    solid = found.mask[..., 0] & (view["opacity"] > 0.05)
    owner = view["primitive"]
    all_ids = torch.cat(ids)[(found.face.long() // 80).clamp_min(0)]
    among = ((all_ids == owner[..., None]) & found.mask).any(-1)
    assert among[solid].float().mean() > 0.999 and solid.float().mean() > 0.4
    assert (owner == nearest)[solid].float().mean() > 0.5
    assert set(view) == {"colour", "opacity", "z_depth", "z_depth_median", "primitive", "normals"}


def test_memory_holds_few_blocks_whatever_their_number(joined, tmp_path):
    """Six blocks, all copies of the first, one behind the other: as long a street as one likes."""
    folder = tmp_path / "long"
    config = {key: value for key, value in joined.config.items() if key != "format"}
    names = [f"blocks/{number:03d}" for number in range(6)]
    run = Run.create(folder, config | {"blocks": names}, joined.record())
    part = Run.open(joined.folder / joined.config["blocks"][0])
    box = part.cameras_only.block.boxes
    boxes = np.stack([box[0] + [300.0 * number, 0, 0] for number in range(6)])
    for number, name in enumerate(names):
        record = part.record() | {"block": Block(number, boxes, 1.0).to_json()}
        own = {key: value for key, value in part.config.items() if key != "format"}
        copy = Run.create(folder / name, own, record)
        copy.checkpoint_path.symlink_to(part.checkpoint_path.resolve())
    scene = run.scene()
    held, load = [], scene.part

    def watched(number):
        result = load(number)
        held.append(len(scene._held))
        return result

    scene.part = watched
    cameras = street_cameras(FRAMES, 96, 32)
    for frame in (2, 6):
        scene.render_view(cameras, frame)
    assert len(held) > 6 and max(held) <= HELD


def test_a_camera_that_sees_no_block_sees_the_sky(joined):
    scene = joined.scene()
    cameras = street_cameras(FRAMES, 48, 16)
    scene.render_view(cameras, 6)
    up = cameras.camera_to_world.clone()
    up[:, :3, 1], up[:, :3, 2] = -cameras.camera_to_world[:, :3, 2], cameras.camera_to_world[:, :3, 1]
    up[:, 2, 3] -= 500.0  # looking down from under the street
    view = scene.render_view(replace(cameras, camera_to_world=up), 6, normals=True)
    assert not view["opacity"].any() and (view["primitive"] == -1).all() and view["colour"].any()
    assert view["colour"].isfinite().all() and view["normals"].shape == (16, 48, 3)


def test_a_picture_leaves_out_blocks_that_are_surely_outside():
    cameras = street_cameras(2, 96, 32)  # looking along x
    behind, ahead, aside = (
        np.array([[x, y, 0], [x + 5, y + 5, 5.0]]) for x, y in ((-20, -2), (20, -2), (5, 80))
    )
    assert _outside(cameras[0], behind) and _outside(cameras[0], aside) and not _outside(cameras[0], ahead)
    around = np.array([[-50, -50, -50], [50, 50, 50.0]])
    assert not _outside(cameras[0], around)
    assert _outside(cameras[0], np.full((2, 3), np.nan))


def test_a_mesh_of_blocks_has_each_primitive_once(joined, tmp_path):
    mesh = fs.export_mesh(joined, tmp_path / "street.ply")
    number = np.asarray(mesh.vertex_attributes["primitive"])
    assert len(mesh.vertices) == 42 * len(np.unique(number)) and len(mesh.faces) % 80 == 0
    scene = joined.scene()
    assert len(np.unique(number)) <= len(scene.arrangement)
    assert mesh.metadata["fieldstone"]["faces"] == len(mesh.faces)
    middles = np.asarray(mesh.vertices).reshape(-1, 42, 3).mean(1)
    block = scene.blocks[0]
    owner = block.owner(middles)[0]
    first = number.reshape(-1, 42)[:, 0] < scene.first[1]
    assert (owner[first] == 0).mean() > 0.95 and (owner[~first] == 1).mean() > 0.95


def test_blocks_are_edited_as_one_scene(joined, tmp_path, capsys):
    ids, _ = fs.select_primitives(joined, {"label": "car"})
    scene = joined.scene()
    assert (ids < scene.first[1]).any() and (ids >= scene.first[1]).any()
    road = {"label": "road", "box": [[-20, -2, -1], [60, 2, 1]]}
    edits = [
        {"do": "delete", "select": {"label": "car"}},
        {"do": "duplicate", "select": road, "translate": [0, 0, 1.0]},
        {"do": "recolour", "select": road, "colour": [0.1, 0.6, 0.2]},
    ]
    edited = fs.edit_scene(joined, tmp_path / "edited", edits)
    cameras = street_cameras(FRAMES, 96, 32)
    before, after = scene.render_view(cameras, 6), edited.scene().render_view(cameras, 6)
    assert not torch.isin(after["primitive"], torch.from_numpy(ids)).any()
    assert (after["primitive"] >= scene.first[-1]).float().mean() > 0.05
    green = after["primitive"] >= scene.first[-1]
    assert after["colour"][green][:, 1].mean() > before["colour"][green][:, 1].mean()
    with pytest.raises(UserError, match="lie in 2 blocks"):
        fs.edit_scene(joined, tmp_path / "no", [{"do": "dress", "select": road, "with": {"label": "car"}}])
    again = fs.edit_scene(
        edited, tmp_path / "again", [{"do": "delete", "select": {"ids": str(scene.first[-1])}}]
    )
    assert int(scene.first[-1]) not in again.scene().arrangement.ids
    assert (
        main(
            [
                "render-views",
                str(again.folder),
                "--path",
                "dataset",
                "--split",
                "test",
                "--out",
                str(tmp_path / "v"),
            ]
        )
        == 0
    )


def test_blocks_are_taken_up_where_they_were_left(street, tmp_path, joined):
    out = tmp_path / "run"
    blocks = tmp_path / "blocks.json"
    boxes = Run.open(joined.folder / joined.config["blocks"][0]).cameras_only.block.boxes
    listed = [{"low": low.tolist(), "high": high.tolist()} for low, high in boxes]
    blocks.write_text(json.dumps({"blocks": listed, "margin": 1.8}))
    run = fs.train_scene(street, out, steps=3, method="dnmp", settings=SETTINGS, blocks=blocks, quiet=True)
    second = out / run.config["blocks"][1]
    (second / "checkpoint.safetensors").unlink()
    with pytest.raises(UserError, match="1 of 2 blocks are not trained"):
        Run.open(out).scene()
    before = (out / run.config["blocks"][0] / "checkpoint.safetensors").read_bytes()
    assert (
        main(["train-scene", "--out", str(second), "--resume", "--quiet"]) == 0
    )  # alone, as a scheduler would
    assert len(Run.open(out).scene().parts) == 2
    assert main(["train-scene", "--out", str(out), "--resume", "--quiet"]) == 0  # nothing is left to do
    assert (out / run.config["blocks"][0] / "checkpoint.safetensors").read_bytes() == before
    assert main(["train-scene", "--out", str(out), "--resume", "--steps", "4", "--quiet"]) == 0
    assert Run.open(second).metrics()[-1]["step"] == 4


def test_blocks_divide_space_and_follow_the_cameras(street):
    capture = datasets.open(street)
    blocks = plan_blocks(capture, 9.0)
    assert len(blocks) == 2 and blocks[0].margin == pytest.approx(1.8)
    points = np.asarray(capture.points)
    owned = np.stack([block.owned(points) for block in blocks])
    assert (owned.sum(0) == 1).all() and owned.any(1).all()
    near = np.stack([block.near(points) for block in blocks])
    assert (near >= owned).all() and near.all(0).any()
    border = blocks[0].boxes[0, 1, 0]
    straight = points[np.abs(points[:, 1] + 1.4) < 0.3]
    assert (near[1][np.abs(points[:, 1] + 1.4) < 0.3] == (straight[:, 0] >= border - 1.8)).mean() > 0.99
    assert len(plan_blocks(capture, 1000.0)) == 1
    first = within(capture, blocks[0])
    assert 3 <= len(first.splits["train"]) < len(capture.splits["train"]) and first.block is blocks[0]
    again = Block.from_json(json.loads(json.dumps(blocks[1].to_json())))
    np.testing.assert_array_equal(again.owned(points), owned[1])


def test_a_block_learns_only_itself_at_full_detail(joined):
    run = Run.open(joined.folder / joined.config["blocks"][0])
    method, trained = load_part(run)
    block = method.capture.block
    widest = SETTINGS["voxel"] * 2 / 2
    beyond = trained.half_side > 1.5 * widest
    assert beyond.any() and not block.near(trained.centres[beyond]).any()
    assert trained.there.any() and not (trained.there & beyond).any()
    assert np.abs(method.frame.apply(trained.centres[trained.there])).max() < method.half_side + 1e-3


def test_what_cannot_be_divided_is_refused_in_one_line(street, tmp_path, capsys):
    def refused(*more):
        assert main(["train-scene", str(street), "--out", str(tmp_path / "out"), "--steps", "2", *more]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and not (tmp_path / "out").exists()
        return error

    assert "method hash-grid does not train in blocks" in refused("--block-size", "9")
    assert "more than 10000" in refused("--block-size", "0.0001", "--method", "dnmp")
    bad = tmp_path / "bad.json"
    dnmp = ("--method", "dnmp", "--blocks", str(bad))
    assert "cannot be read as JSON" in refused(*dnmp)
    bad.write_text('{"blocks": [{"low": [0, 0, 0]}], "margin": 1}')
    assert 'wanted {"blocks"' in refused(*dnmp)
    bad.write_text('{"blocks": [{"low": [0, 0, 0], "high": [1, 1, NaN]}], "margin": 1}')
    assert "wanted index, boxes" in refused(*dnmp)
    far = {"low": [5000, 0, 0], "high": [5001, 1, 1]}
    bad.write_text(json.dumps({"blocks": [{"low": [0, -3, 0], "high": [20, 0, 4]}, far], "margin": 1}))
    assert "block 1 from [5000.0, 0.0, 0.0] to [5001.0, 1.0, 1.0]: no training view sees it" in refused(*dnmp)
    assert "exposure" in refused("--method", "dnmp", "--block-size", "9", "--set", "exposure=true")
    with pytest.raises(UserError, match="block size 0"):
        plan_blocks(datasets.open(street), 0.0)
    capture = datasets.open(street)
    with pytest.raises(UserError, match="no point cloud"):
        plan_blocks(replace(capture, points=None), 5.0)
    assert [block.index for block in read_blocks(_list(tmp_path))] == [0]


def _list(folder):
    path = folder / "one.json"
    path.write_text('{"blocks": [{"low": [0, 0, 0], "high": [1, 1, 1]}], "margin": 0}')
    return path
