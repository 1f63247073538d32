"""The commands from end to end on a small capture the tests make: what they write, what they refuse, how they end."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch

import fieldstone as fs
from fieldstone.__main__ import main
from fieldstone.core.errors import UserError

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
METHOD = ["--method", "tiny_method:TinyMethod"]


def write_capture(folder: Path, *, train: int = 6, test: int = 3, size: int = 24, turn: float = 0.0) -> Path:
    """Cameras in a ring that look at the origin, in the layout of NeRF-synthetic; opaque pictures of a gradient."""
    rows, columns = np.mgrid[:size, :size] / size
    picture = np.stack([rows, columns, np.sin(7 * rows) ** 2], -1)
    for split, count in (("train", train), ("test", test)):
        frames = []
        (folder / split).mkdir(parents=True)
        for i in range(count):
            angle = turn + 2 * math.pi * (i + 0.5 * (split == "test")) / count
            back = np.array([math.cos(angle), math.sin(angle), 0.3])
            back /= np.linalg.norm(back)
            right = np.cross([0, 0, 1], back)
            right /= np.linalg.norm(right)
            pose = np.eye(4)
            pose[:3, :3] = np.stack([right, np.cross(back, right), back], 1)
            pose[:3, 3] = 2 * back
            frames.append({"file_path": f"./{split}/r_{i}", "transform_matrix": pose.tolist()})
            imageio.imwrite(folder / split / f"r_{i}.png", (picture * 255).astype(np.uint8))
        record = {"camera_angle_x": 0.7, "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Path:
    return write_capture(tmp_path_factory.mktemp("data") / "ring")


@pytest.fixture(scope="module")
def trained(capture) -> Path:
    """A run beside its data: made once, not to be changed by a test."""
    out = capture.parent / "runs" / "ring"
    assert main(["train-scene", str(capture), "--out", str(out), "--steps", "300", "--quiet", *METHOD]) == 0
    return out


def refused(capsys, *arguments: object) -> str:
    """The one line of a command that ends with exit code 2."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as end:  # argparse
        code = end.code
    error = capsys.readouterr().err
    assert code == 2, error
    lines = [line for line in error.splitlines() if line.startswith("fieldstone: error: ")]
    assert len(lines) == 1, error
    assert "Traceback" not in error
    assert error.endswith(lines[0] + "\n")
    return lines[0]


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from fieldstone.__main__ import build_parser\n"
        "build_parser().format_help()\n"
        "heavy = {'torch', 'numpy', 'numba', 'scipy', 'rich', 'imageio', 'trimesh'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("command", [[], ["train-scene"], ["render-views"], ["evaluate"], ["export-mesh"]])
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert end.value.code == 0
    assert "--help" in capsys.readouterr().out


def test_a_training_leaves_a_whole_run(trained, capture):
    names = {path.name for path in trained.iterdir()}
    assert {"config.json", "capture.json", "checkpoint.safetensors", "metrics.jsonl", "report.html"} <= names
    run = fs.load_run(trained)
    assert run.config["data"]["path"] == "../../ring"
    assert run.config["settings"]["cells"] == 16, "defaults are filled in"
    assert str(capture.parent) not in (trained / "config.json").read_text(), "paths inside are relative"
    assert run.metrics()[-1]["step"] == 300
    assert len(list(run.previews.glob("step_*.jpg"))) == 1, "one at the end: the run is too short for more"


def test_the_report_needs_no_other_file(trained):
    page = (trained / "report.html").read_text()
    assert page.count("<svg") == 4
    assert page.count("data:image/jpeg;base64,") == 3 * 3 + 1, "three held-out views, one preview"
    assert "Held-out views" in page
    assert "http" not in page
    assert "<script" not in page


def test_evaluate_writes_what_it_shows(trained, tmp_path, capsys):
    out = tmp_path / "scores.json"
    assert main(["evaluate", str(trained), "--json", str(out), "--images", str(tmp_path / "images")]) == 0
    table = capsys.readouterr().out
    scores = json.loads(out.read_text())
    assert scores["split"] == "test"
    assert [view["name"] for view in scores["views"]] == ["test/r_0.png", "test/r_1.png", "test/r_2.png"]
    assert scores["psnr"] == pytest.approx(np.mean([view["psnr"] for view in scores["views"]]))
    assert scores["ssim"] == pytest.approx(np.mean([view["ssim"] for view in scores["views"]]))
    assert f"{scores['psnr']:.2f}" in table
    assert len(list((tmp_path / "images").glob("*.png"))) == 9
    # the picture that was written is the one that was measured
    rendered = imageio.imread(tmp_path / "images" / "test_r_0_render.png") / 255
    truth = imageio.imread(tmp_path / "images" / "test_r_0_truth.png") / 255
    psnr = -10 * math.log10(((rendered - truth) ** 2).mean())
    assert scores["views"][0]["psnr"] == pytest.approx(psnr, abs=0.1)


def test_evaluate_other_splits(trained, capsys):
    assert len(fs.evaluate(trained, split="train")["views"]) == 6
    assert len(fs.evaluate(trained, split="all")["views"]) == 9
    assert "nonsense" in refused(capsys, "evaluate", trained, "--split", "nonsense")


def test_evaluate_on_another_capture_of_the_scene(trained, capture, tmp_path):
    other = write_capture(tmp_path / "other", train=4, test=2, turn=0.1)
    scores = fs.evaluate(trained, data=other)
    assert [view["name"] for view in scores["views"]] == ["test/r_0.png", "test/r_1.png"]
    # without a test split of its own, every frame counts but those that training saw
    shutil.rmtree(other / "test")
    (other / "transforms_test.json").unlink()
    poses = json.loads((other / "transforms_train.json").read_text())
    seen = json.loads((capture / "transforms_train.json").read_text())["frames"]
    poses["frames"][1]["transform_matrix"] = seen[1]["transform_matrix"]
    (other / "transforms_train.json").unlink()
    (other / "transforms.json").write_text(json.dumps(poses))
    scores = fs.evaluate(trained, data=other)
    names = [Path(view["name"]).stem for view in scores["views"]]
    assert scores["split"] == "unseen"
    assert names == ["r_0", "r_2", "r_3"]


def test_a_run_can_be_moved_and_rendered_without_its_photos(trained, capture, tmp_path, capsys):
    moved = tmp_path / "deep" / "er" / "moved"
    shutil.copytree(trained, moved)
    out = tmp_path / "orbit.gif"
    assert main(["render-views", str(moved), "--frames", "3", "--downscale", "2", "--out", str(out)]) == 0
    capsys.readouterr()
    assert "--data" in refused(capsys, "evaluate", moved), "the photos are not beside it any more"
    assert len(fs.evaluate(moved, data=capture)["views"]) == 3
    # moved together with its data, it needs no help
    shutil.copytree(trained, tmp_path / "b" / "runs" / "ring")
    shutil.copytree(capture, tmp_path / "b" / "ring")
    assert fs.evaluate(tmp_path / "b" / "runs" / "ring")["psnr"] == fs.evaluate(trained)["psnr"]


def test_render_views_mp4_gif_and_frames(trained, tmp_path):
    video = fs.render_views(trained, "orbit", tmp_path / "v.mp4", frames=5, width=33, height=21)
    frames = np.stack(list(imageio.imiter(video)))
    assert frames.shape == (5, 20, 32, 3), "H.264 wants even sides"
    gif = fs.render_views(trained, fs.spiral(frames=3), tmp_path / "v.gif", downscale=2, output="normals")
    assert gif.stat().st_size > 0
    folder = fs.render_views(trained, "dataset", tmp_path / "frames", split="train")
    assert sorted(path.name for path in folder.iterdir())[0] == "00000_r_0.png"
    assert imageio.imread(folder / "00003_r_3.png").shape == (24, 24, 3)
    assert len(list(folder.iterdir())) == 6
    assert not list(tmp_path.glob(".*")), "nothing temporary stays"


def test_render_views_along_a_nerfstudio_path(trained, tmp_path):
    pose = np.eye(4)
    pose[2, 3] = 3
    path = tmp_path / "path.json"
    frame = {"camera_to_world": pose.reshape(-1).tolist(), "fov": 50, "aspect": 1}
    record = {"render_height": 16, "render_width": 20, "camera_path": [frame] * 4, "seconds": 1}
    path.write_text(json.dumps(record))
    out = fs.render_views(trained, str(path), tmp_path / "frames")
    assert [imageio.imread(name).shape for name in sorted(out.iterdir())] == [(16, 20, 3)] * 4


@pytest.mark.parametrize("output", ["colour", "z_depth", "opacity", "normals"])
def test_every_output_is_a_picture(trained, tmp_path, output):
    out = fs.render_views(trained, "orbit", tmp_path / "frames", frames=1, downscale=2, output=output)
    picture = imageio.imread(out / "frame_00000.png")
    assert picture.shape == (12, 12, 3)
    if output == "opacity":
        assert (picture == 255).all()
    if output == "normals":
        assert (picture == [128, 128, 0]).all(), "(0, 0, -1) as a colour"


def test_bad_arguments_are_one_line(trained, capture, tmp_path, capsys):
    train = ["train-scene", capture, "--out", tmp_path / "new"]
    assert "minutes" in refused(capsys, *train, "--minutes", "-1")
    assert "minutes" in refused(capsys, *train, "--minutes", "nan")
    assert "steps" in refused(capsys, *train, "--steps", "1.5")
    assert "not allowed" in refused(capsys, *train, "--steps", "5", "--minutes", "1")
    assert "hash-grid" in refused(capsys, *train, "--method", "magic")
    assert "no_such_module" in refused(capsys, *train, "--method", "no_such_module:X")
    assert "key=value" in refused(capsys, *train, "--set", "cells")
    assert "colour_cells" in refused(capsys, *train, *METHOD, "--set", "colour_cells=3")
    if not torch.cuda.is_available():
        assert "no usable NVIDIA GPU" in refused(capsys, *train, "--device", "cuda")
    assert "nowhere" in refused(capsys, "train-scene", tmp_path / "nowhere")
    assert "bundled" in refused(capsys, "train-scene", "--downscale", "2", "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists(), "nothing half-written"

    assert "already holds a run" in refused(capsys, "train-scene", capture, "--out", trained)
    assert "no such run" in refused(capsys, "evaluate", tmp_path / "nowhere")
    assert "is no run" in refused(capsys, "export-mesh", capture, "--out", tmp_path / "m.glb")
    assert "required" in refused(capsys, "render-views", trained)
    for name, message in (("v.avi", "'.avi'"), ("v.mp4", "zigzag")):
        line = refused(capsys, "render-views", trained, "--path", "zigzag", "--out", tmp_path / name)
        assert message in line
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    assert "not an empty folder" in refused(capsys, "render-views", trained, "--out", tmp_path / "full")
    assert "invalid choice" in refused(capsys, "no-such-command")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_a_corrupt_image_leaves_no_run_behind(tmp_path, capsys):
    data = write_capture(tmp_path / "data")
    picture = data / "train" / "r_2.png"
    picture.write_bytes(picture.read_bytes()[:-40])
    code = main(
        [
            "train-scene",
            str(data),
            "--out",
            str(tmp_path / "run"),
            "--steps",
            "5",
            *METHOD,
            "--set",
            "read=true",
        ]
    )
    error = capsys.readouterr().err
    assert code == 2
    assert "r_2.png" in error.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(UserError):
        main(["evaluate", str(tmp_path / "nowhere"), "--debug"])


def test_resume_keeps_what_the_run_began_with(capture, tmp_path, capsys):
    out = tmp_path / "run"
    common = [*METHOD, "--quiet"]
    assert (
        main(["train-scene", str(capture), "--out", str(out), "--steps", "20", "--set", "cells=8", *common])
        == 0
    )
    assert "--seed" in refused(capsys, "train-scene", "--out", out, "--resume", "--seed", "5")
    assert "no such run" in refused(capsys, "train-scene", "--out", tmp_path / "nowhere", "--resume")
    assert fs.load_run(out).config["settings"]["cells"] == 8


def test_resume_continues_to_a_larger_budget(capture, tmp_path):
    out = tmp_path / "run"
    fs.train_scene(capture, out, steps=20, method=METHOD[1], settings={"cells": 8}, quiet=True)
    run = fs.train_scene(out=out, steps=45, resume=True, quiet=True)
    assert [line["step"] for line in run.metrics()] == [10, 20, 30, 40, 45]
    assert run.config["budget"] == {"minutes": None, "steps": 45}
    assert run.config["settings"]["cells"] == 8


def test_resume_refuses_another_capture(capture, trained, tmp_path, capsys):
    other = write_capture(tmp_path / "other", train=4)
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    assert "frames differ" in refused(capsys, "train-scene", other, "--out", run, "--resume")
    assert main(["train-scene", str(capture), "--out", str(run), "--resume", "--quiet"]) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_saves_and_says_how_to_go_on(capture, tmp_path, number):
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "fieldstone",
        "train-scene",
        str(capture),
        "--out",
        str(out),
        "--steps",
        "100000",
    ]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    options = [*METHOD, "--set", "sleep=0.005"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True, env=environment)
    deadline = time.monotonic() + 120
    while not (out / "metrics.jsonl").exists() or not (out / "metrics.jsonl").read_text():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"train-scene --out {out} --resume" in error.splitlines()[-1]
    step = fs.load_run(out).metrics()[-1]["step"]
    run = fs.train_scene(out=out, steps=step + 20, resume=True, quiet=True)
    assert run.metrics()[-1]["step"] == step + 20


def test_the_method_of_the_documentation_trains(capture, tmp_path, monkeypatch):
    page = (HERE.parents[1] / "docs" / "add_a_method.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    (tmp_path / "method_of_the_docs.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    out = tmp_path / "run"
    run = fs.train_scene(capture, out, steps=60, method="method_of_the_docs:MeanColour", quiet=True)
    lines = run.metrics()
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert len(fs.evaluate(run)["views"]) == 3
    assert fs.render_views(run, "orbit", tmp_path / "o.gif", frames=2).exists()
