"""train-video from the command line: what it reads, learns, resumes, packs, decodes and refuses."""

import json
import signal

import numpy as np
import pytest
import torch
from PIL import Image

import fieldstone as fs
from fieldstone.__main__ import main
from fieldstone.tools import metrics
from fieldstone.tools.training.checkpoint import load_checkpoint
from fieldstone.tools.training.video import VideoMethod
from fieldstone.tools.video.similarity import frame_similarity

WIDTH, HEIGHT, FRAMES = 36, 24, 5
QUICK = ["--steps", "150", "--parameters", "6000", "--loss", "mse", "--quiet"]


def frames() -> list[np.ndarray]:
    """A disc that crosses soft colours."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    result = []
    for number in range(FRAMES):
        disc = ((x - 6 - 5 * number) ** 2 + (y - 12) ** 2 < 36)[..., None]
        ground = np.stack([4 * x, 5 * y + 40, 200 - 3 * x], axis=2)
        result.append(np.where(disc, (240, 220, 60), ground).astype(np.uint8))
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("videos") / "frames"
    path.mkdir()
    for number, frame in enumerate(frames()):
        Image.fromarray(frame).save(path / f"{number}.png")
    return path


@pytest.fixture(scope="module")
def cam(folder):
    out = folder.parent / "cam"
    assert main(["train-video", str(folder), "--out", str(out), "--fps", "8", *QUICK]) == 0
    return out


def test_evaluate_tells_quality_and_size(cam, tmp_path):
    file, pictures = tmp_path / "e.json", tmp_path / "pictures"
    assert main(["evaluate", str(cam), "--json", str(file), "--images", str(pictures)]) == 0
    result = json.loads(file.read_text())
    assert result["psnr"] > 22 and 0 < result["ssim"] < 1 and result["parameters"] <= 6000
    assert len(result["views"]) == result["frames"] == FRAMES
    assert result["psnr"] == pytest.approx(np.mean([view["psnr"] for view in result["views"]]))
    assert 4 * result["parameters"] < result["bytes"] < 4 * result["parameters"] + 3000
    assert len(list(pictures.glob("*_error.png"))) == FRAMES
    report = (cam / "report.html").read_text()
    assert "PSNR of each frame" in report and "frame 2" in report
    assert not [path for path in cam.rglob("*") if path.suffix in (".pkl", ".pt", ".pth")]


@pytest.mark.parametrize("bits", [8, 6])
def test_packing_is_stable_bit_for_bit_and_costs_little(cam, tmp_path, bits):
    file, again, run = tmp_path / "p.fsp", tmp_path / "again.fsp", tmp_path / "run"
    assert main(["pack", str(cam), "--bits", str(bits), "--out", str(file)]) == 0
    assert main(["unpack", str(file), "--out", str(run)]) == 0
    assert main(["pack", str(run), "--bits", str(bits), "--out", str(again)]) == 0
    assert file.read_bytes() == again.read_bytes()
    assert main(["render-video", str(file), "--out", str(tmp_path / "a")]) == 0
    assert main(["render-video", str(run), "--out", str(tmp_path / "b")]) == 0
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == FRAMES
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    before, after = fs.evaluate(cam), fs.evaluate(file)
    assert after["bytes"] == file.stat().st_size == fs.evaluate(run)["bytes"]
    assert after["bytes"] < 0.45 * before["bytes"]
    assert before["psnr"] - after["psnr"] < (0.15 if bits == 8 else 1.5)


def test_one_frame_alone_is_the_frame_in_its_video(cam, tmp_path):
    assert main(["render-video", str(cam), "--out", str(tmp_path / "all")]) == 0
    assert main(["render-video", str(cam), "--out", str(tmp_path / "f.png"), "--frame", "3"]) == 0
    shown = np.asarray(Image.open(tmp_path / "f.png"))
    assert np.array_equal(shown, np.asarray(Image.open(tmp_path / "all" / "frame_00003.png")))
    assert metrics.psnr(shown / 255.0, frames()[3] / 255.0) > 20


def test_an_mp4_holds_all_frames_at_the_rate_of_the_video(cam, tmp_path):
    from fieldstone.datasets.moving_picture import open_moving_picture

    file = tmp_path / "p.fsp"
    assert main(["pack", str(cam), "--out", str(file)]) == 0
    assert main(["unpack", str(file), "--out", str(tmp_path / "v.mp4")]) == 0
    video = open_moving_picture(tmp_path / "v.mp4")
    assert (len(video), video.width, video.height, video.fps) == (FRAMES, WIDTH, HEIGHT, 8)
    assert metrics.psnr(video.frame(2) / 255.0, frames()[2] / 255.0) > 18


def test_neighbours_plain_and_compact_generators_learn(folder, tmp_path):
    chosen = {
        "neighbours": ["--set", "neighbours=1"],
        "compact": ["--set", "compact=true", "--bits", "6"],
        "plain": ["--method", "plain"],
    }
    for name, options in chosen.items():
        out = tmp_path / name
        assert main(["train-video", str(folder), "--out", str(out), *QUICK, "--steps", "60", *options]) == 0
        assert fs.evaluate(out)["psnr"] > 14, name


def test_resumed_equals_uninterrupted(folder, tmp_path, monkeypatch):
    def tensors(run):
        return load_checkpoint(run / "checkpoint.safetensors")[0]

    def go(run, *arguments):
        return main(["train-video", *arguments, "--out", str(run), "--quiet"])

    fresh = [str(folder), "--parameters", "5000", "--steps", "14", "--bits", "8", "--set", "batch=2"]
    assert go(tmp_path / "a", *fresh) == 0
    plain = VideoMethod.before_step

    def interrupted(method, step, progress):
        if step == 6:
            signal.raise_signal(signal.SIGINT)
        plain(method, step, progress)

    monkeypatch.setattr(VideoMethod, "before_step", interrupted)
    assert go(tmp_path / "b", *fresh) == 130
    monkeypatch.setattr(VideoMethod, "before_step", plain)
    assert go(tmp_path / "b", "--resume") == 0
    once, twice = tensors(tmp_path / "a"), tensors(tmp_path / "b")
    assert once.keys() == twice.keys() and all(torch.equal(once[name], twice[name]) for name in once)
    assert go(tmp_path / "b", "--resume", "--parameters", "6000") == 2


def test_raw_video_is_resumed_and_measured_where_it_was_moved_to(folder, tmp_path):
    import cv2

    path = tmp_path / "clip.yuv"
    path.write_bytes(b"".join(cv2.cvtColor(f, cv2.COLOR_RGB2YUV_I420).tobytes() for f in frames()))
    run = tmp_path / "run"
    options = ["--size", f"{WIDTH}x{HEIGHT}", "--fps", "8", "--parameters", "5000", "--quiet"]
    assert main(["train-video", str(path), "--out", str(run), "--steps", "3", *options]) == 0
    path.rename(tmp_path / "moved.yuv")
    assert main(["evaluate", str(run)]) == 2
    assert main(["evaluate", str(run), "--data", str(tmp_path / "moved.yuv")]) == 0
    again = ["train-video", str(tmp_path / "moved.yuv"), "--out", str(run), "--resume", "--quiet"]
    assert main([*again, "--steps", "5"]) == 0
    assert fs.evaluate(run, data=tmp_path / "moved.yuv")["frames"] == FRAMES


def test_every_frame_is_seen_once_a_round_in_an_order_of_the_seed(cam):
    method = fs.load_run(cam).method()
    method.options.batch = 2
    seen = torch.cat([method._numbers(step) for step in range(FRAMES)])
    assert sorted(seen[:FRAMES].tolist()) == sorted(seen[FRAMES:].tolist()) == list(range(FRAMES))
    assert seen[:FRAMES].tolist() != seen[FRAMES:].tolist()


def test_the_loss_falls_with_similarity_as_it_is_reported():
    rng = np.random.default_rng(5)
    truth = rng.random((20, 30, 3), np.float32)
    near = np.clip(truth + rng.normal(0, 0.1, truth.shape), 0, 1).astype(np.float32)
    a, b = (torch.from_numpy(p).permute(2, 0, 1)[None].double() for p in (near, truth))
    assert float(frame_similarity(a, b)) == pytest.approx(metrics.ssim(near, truth), abs=1e-6)
    tiny = torch.rand(1, 3, 8, 9)
    assert float(frame_similarity(tiny, tiny)) == pytest.approx(1.0)


def test_damaged_packed_files_are_one_line_and_exit_code_2(cam, tmp_path, capsys):
    file = tmp_path / "p.fsp"
    main(["pack", str(cam), "--out", str(file)])
    data = file.read_bytes()
    capsys.readouterr()
    for name, wrong in (
        ("cut", data[:-20]),
        ("flipped", data[:900] + bytes([data[900] ^ 1]) + data[901:]),
        ("later", data[:4] + b"\x63" + data[5:]),
    ):
        (tmp_path / f"{name}.fsp").write_bytes(wrong)
        for command, out in (("unpack", "x"), ("unpack", "x.mp4"), ("render-video", "y")):
            assert main([command, str(tmp_path / f"{name}.fsp"), "--out", str(tmp_path / out)]) == 2
            message = capsys.readouterr().err
            assert message.count("\n") == 1 and f"{name}.fsp" in message
    assert not any((tmp_path / out).exists() for out in ("x", "x.mp4", "y"))


def test_other_videos_and_runs_are_refused_in_one_line(folder, cam, tmp_path, capsys):
    out = str(tmp_path / "run")
    (tmp_path / "odd.yuv").write_bytes(bytes(1000))
    (tmp_path / "empty.mp4").write_bytes(b"")
    Image.new("RGB", (6, 6)).save(tmp_path / "tiny.png")
    wrong = [
        ([str(tmp_path / "nowhere.mp4")], "no such file"),
        ([str(tmp_path / "empty.mp4")], "no frames"),
        ([str(tmp_path / "odd.yuv")], "--size"),
        ([str(tmp_path / "odd.yuv"), "--size", "31x16"], "even"),
        ([str(tmp_path / "odd.yuv"), "--size", "32x16"], "whole number"),
        ([str(folder), "--size", "32x16"], "--size is for raw"),
        ([str(folder), "--parameters", "50"], "smallest generator"),
        ([str(folder), "--bits", "99"], "bits"),
        ([str(folder), "--set", "colour=1"], "colour"),
        ([str(folder), "--set", "neighbours=9"], "neighbours"),
        ([], "which video"),
    ]
    for arguments, words in wrong:
        assert main(["train-video", *arguments, "--out", out, "--steps", "1"]) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1 and words in message, (arguments, message)
    assert not (tmp_path / "run").exists()
    for command in (
        ["train-video", str(folder), "--out", str(cam), "--steps", "1"],
        ["train-scene", "--out", str(cam), "--resume"],
        ["train-image", "--out", str(cam), "--resume"],
        ["render-views", str(cam), "--out", str(tmp_path / "o.mp4")],
        ["render-image", str(cam), "--out", str(tmp_path / "o.png")],
        ["export-mesh", str(cam), "--out", str(tmp_path / "o.ply")],
        ["render-video", str(cam), "--out", str(tmp_path / "o.png")],
        ["render-video", str(cam), "--out", str(tmp_path / "o.png"), "--frame", "99"],
        ["render-video", str(cam), "--out", str(tmp_path / "o.mp4"), "--frame", "1"],
    ):
        assert main(command) == 2, command
        assert capsys.readouterr().err.count("\n") == 1
