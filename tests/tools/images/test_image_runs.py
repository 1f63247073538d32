"""train-image from the command line: models, depths, protocols, resume, packing, and what is refused."""

import json
import signal

import numpy as np
import pytest
import torch
from PIL import Image

import fieldstone as fs
from fieldstone.__main__ import main
from fieldstone.datasets.image_file import decode
from fieldstone.tools.images.picture import open_picture
from fieldstone.tools.images.tone import compress, expand
from fieldstone.tools.images.view import srgb_to_linear, write_picture
from fieldstone.tools.training.checkpoint import load_checkpoint
from fieldstone.tools.training.image import ImageMethod

QUICK = ["--steps", "200", "--parameters", "6000", "--quiet"]


def _scene(height=24, width=40):
    y, x = np.mgrid[:height, :width] / width
    return np.stack([0.5 + 0.5 * np.sin(9 * x), 0.5 + 0.5 * np.cos(11 * y), (x + y) / 2], -1).astype(
        np.float32
    )


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "picture.png"
    write_picture(path, _scene(), hdr=False)
    return path


@pytest.fixture(scope="module")
def cam(picture):
    out = picture.parent / "cam"
    assert main(["train-image", str(picture), "--out", str(out), *QUICK]) == 0
    return out


@pytest.mark.parametrize("method", ["fourier", "hash-grid"])
def test_other_models_learn(picture, tmp_path, method):
    out = tmp_path / "run"
    settings = ["--method", method, *QUICK[:2], "--parameters", "9000", "--quiet"]
    assert main(["train-image", str(picture), "--out", str(out), *settings]) == 0
    result = fs.evaluate(out)
    assert result["psnr"] > 17 and result["parameters"] <= 9000


def test_the_hash_grids_head_follows_the_budget_and_earlier_runs_keep_theirs(picture, tmp_path):
    settings = ["--method", "hash-grid", "--steps", "1", "--parameters", "8000", "--quiet"]
    assert main(["train-image", str(picture), "--out", str(tmp_path / "run"), *settings]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["head"] == 32
    earlier = {"model": "hash-grid", "parameters": 8000}  # what a run's config said before heads had a width
    method = ImageMethod(open_picture(picture), earlier, seed=0, device="cpu")
    assert method.field.mlp.weights[1].shape == (64, 64)


def test_evaluate_tells_quality_and_size(cam, tmp_path):
    assert (
        main(["evaluate", str(cam), "--json", str(tmp_path / "e.json"), "--images", str(tmp_path / "i")]) == 0
    )
    result = json.loads((tmp_path / "e.json").read_text())
    assert result["psnr"] > 17 and result["parameters"] <= 6000
    assert 4 * result["parameters"] < result["bytes"] < 4 * result["parameters"] + 2000
    assert (tmp_path / "i" / "picture_error.png").is_file() and (cam / "report.html").is_file()


@pytest.mark.parametrize("bits", [8, 6])
def test_packing_is_stable_bit_for_bit_and_costs_little(cam, tmp_path, bits):
    file, again, run = tmp_path / "p.fsp", tmp_path / "again.fsp", tmp_path / "run"
    assert main(["pack", str(cam), "--bits", str(bits), "--out", str(file)]) == 0
    assert main(["unpack", str(file), "--out", str(run)]) == 0
    assert main(["pack", str(run), "--bits", str(bits), "--out", str(again)]) == 0
    assert file.read_bytes() == again.read_bytes()
    assert main(["unpack", str(file), "--out", str(tmp_path / "a.png")]) == 0
    assert main(["render-image", str(run), "--out", str(tmp_path / "b.png")]) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    before, after = fs.evaluate(cam), fs.evaluate(file)
    assert after["bytes"] == file.stat().st_size == fs.evaluate(run)["bytes"]
    assert after["bytes"] < 0.4 * before["bytes"]
    assert abs(after["psnr"] - before["psnr"]) < (0.15 if bits == 8 else 1.0)


def test_training_through_quantisation(picture, tmp_path):
    run = fs.train_image(picture, tmp_path / "r", steps=200, parameters=6000, bits=4, quiet=True)
    assert fs.evaluate(run)["psnr"] > 14
    fs_plain = fs.train_image(picture, tmp_path / "p", steps=200, parameters=6000, quiet=True)
    packed = {}
    for name, source in (("through", run), ("after", fs_plain)):
        main(["pack", str(source.folder), "--bits", "4", "--out", str(tmp_path / f"{name}.fsp")])
        packed[name] = fs.evaluate(tmp_path / f"{name}.fsp")["psnr"]
    assert packed["through"] > packed["after"]


def test_damaged_packed_files_are_one_line_and_exit_code_2(cam, tmp_path, capsys):
    file = tmp_path / "p.fsp"
    main(["pack", str(cam), "--out", str(file)])
    data = file.read_bytes()
    capsys.readouterr()
    for name, wrong in (
        ("cut", data[:-20]),
        ("flipped", data[:900] + bytes([data[900] ^ 1]) + data[901:]),
        ("later", data[:4] + b"\x63" + data[5:]),
        ("other", b"PNG" + data),
    ):
        (tmp_path / f"{name}.fsp").write_bytes(wrong)
        for command in (
            ["unpack", "--out", str(tmp_path / "x")],
            ["evaluate"],
            ["render-image", "--out", "x.png"],
        ):
            assert main([command[0], str(tmp_path / f"{name}.fsp"), *command[1:]]) == 2
            message = capsys.readouterr().err
            assert message.count("\n") == 1 and f"{name}.fsp" in message
    assert not (tmp_path / "x").exists()


def test_any_size_and_any_part(cam, tmp_path):
    whole = tmp_path / "whole.png"
    assert main(["render-image", str(cam), "--out", str(whole), "--width", "100"]) == 0
    assert Image.open(whole).size == (100, 60)
    part = tmp_path / "part.png"
    main(["render-image", str(cam), "--out", str(part), "--width", "100", "--crop", "70,20,30,11"])
    assert np.array_equal(np.asarray(Image.open(whole))[20:31, 70:100], np.asarray(Image.open(part)))
    assert main(["render-image", str(cam), "--out", str(part), "--crop", "30,0,30,11"]) == 2
    assert main(["render-image", str(cam), "--out", "x.bmp"]) == 2


def test_resumed_equals_uninterrupted(picture, tmp_path, monkeypatch):
    def tensors(folder):
        return load_checkpoint(folder / "checkpoint.safetensors")[0]

    def go(folder, *arguments):
        return main(["train-image", *arguments, "--out", str(folder), "--quiet"])

    fresh = [str(picture), "--parameters", "4000", "--steps", "40", "--set", "batch=256"]
    assert go(tmp_path / "a", *fresh) == 0
    plain = ImageMethod.before_step

    def interrupted(method, step, progress):
        if step == 15:
            signal.raise_signal(signal.SIGINT)
        plain(method, step, progress)

    monkeypatch.setattr(ImageMethod, "before_step", interrupted)
    assert go(tmp_path / "b", *fresh) == 130
    monkeypatch.setattr(ImageMethod, "before_step", plain)
    assert go(tmp_path / "b", "--resume") == 0
    once, twice = tensors(tmp_path / "a"), tensors(tmp_path / "b")
    assert once.keys() == twice.keys() and all(torch.equal(once[name], twice[name]) for name in once)
    assert go(tmp_path / "b", "--resume", "--parameters", "5000") == 2


def test_held_out_pixels_are_reported_alone(picture, tmp_path):
    out = tmp_path / "run"
    assert main(["train-image", str(picture), "--out", str(out), "--protocol", "generalisation", *QUICK]) == 0
    result = fs.evaluate(out)
    error = {key: 10 ** (-result[key] / 10) for key in ("psnr", "psnr_held_out", "psnr_trained")}
    assert error["psnr"] == pytest.approx(
        0.75 * error["psnr_held_out"] + 0.25 * error["psnr_trained"], rel=1e-6
    )


def test_16_bits_and_light_without_bound(tmp_path):
    scene = _scene()
    write_picture(tmp_path / "deep.png", scene, hdr=False, bits=16)
    assert open_picture(tmp_path / "deep.png").depth == "16"
    np.testing.assert_allclose(open_picture(tmp_path / "deep.png").pixels, scene, atol=1e-5)
    light = 200 * srgb_to_linear(scene) ** 3
    write_picture(tmp_path / "light.exr", light, hdr=True)
    opened = open_picture(tmp_path / "light.exr")
    assert opened.depth == "hdr" and opened.peak == pytest.approx(float(light.max()), rel=1e-3)
    np.testing.assert_allclose(expand(compress(light, 200), 200), light, rtol=1e-3, atol=1e-3)
    out = tmp_path / "run"
    assert main(["train-image", str(tmp_path / "light.exr"), "--out", str(out), *QUICK]) == 0
    result = fs.evaluate(out)
    assert result["psnr_mu"] == result["psnr"] > 15 and result["relative_error"] < 1
    fs.render_image(out, tmp_path / "back.exr")
    again = open_picture(tmp_path / "back.exr").pixels
    assert again.max() > 20 and again.shape == scene.shape


def test_other_pictures_and_runs_are_refused_in_one_line(picture, cam, tmp_path, capsys):
    alpha, palette, broken = tmp_path / "alpha.png", tmp_path / "palette.png", tmp_path / "broken.png"
    Image.new("RGBA", (20, 20), (9, 9, 9, 99)).save(alpha)
    Image.new("P", (20, 20)).save(palette)
    broken.write_bytes(picture.read_bytes()[:100])
    out = str(tmp_path / "run")
    for path, word in ((alpha, "alpha"), (palette, "palette"), (broken, "image"), (tmp_path, "folder")):
        assert main(["train-image", str(path), "--out", out, "--steps", "1"]) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1 and word in message and path.name in message
    for wrong in (["--parameters", "100"], ["--set", "colour=1"], ["--bits", "99"]):
        assert main(["train-image", str(picture), "--out", out, "--steps", "1", *wrong]) == 2
    assert not (tmp_path / "run").exists()
    assert main(["train-image", str(picture), "--out", str(cam), "--steps", "1"]) == 2
    assert main(["train-scene", "--out", str(cam), "--resume"]) == 2
    assert main(["render-views", str(cam), "--out", str(tmp_path / "o.mp4")]) == 2
    assert main(["export-mesh", str(cam), "--out", str(tmp_path / "o.ply")]) == 2
    assert decode(palette, True).shape == (20, 20, 3)
    assert (
        main(["train-image", str(palette), "--out", out, "--background", "white", *QUICK[2:], "--steps", "2"])
        == 0
    )
