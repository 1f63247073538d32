"""Training on a GPU, where there is one: every method that runs there learns, and its runs move between GPU and CPU."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fieldstone as fs
from fieldstone.core.errors import UserError
from fieldstone.datasets.synthetic.moving import write_moving_capture
from fieldstone.tools.training.checkpoint import restore_generator
from fieldstone.tools.training.device import resolve_device
from fieldstone.tools.training.methods import method_class

sys.path.insert(0, str(Path(__file__).parent))
from test_commands import write_capture

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

SMALL = {
    "levels": 4,
    "log2_table_size": 12,
    "finest_resolution": 64,
    "hidden": 16,
    "samples": 4096,
    "occupancy_resolution": 32,
    "steps_across": 128,
}


@pytest.fixture(scope="module")
def still(tmp_path_factory) -> Path:
    return write_capture(tmp_path_factory.mktemp("data") / "ring", train=8, test=2, size=32)


@pytest.fixture(scope="module")
def moving(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("moving")
    write_moving_capture(folder, size=32, train=8, test=4, samples=1)
    return folder


def picture(folder: Path) -> Path:
    y, x = np.mgrid[:40, :60] / 60
    pixels = np.stack([x, y, 0.5 + 0.4 * np.sin(9 * x) * np.cos(7 * y)], axis=2)
    Image.fromarray((pixels * 255).round().astype(np.uint8)).save(folder / "picture.png")
    return folder / "picture.png"


def scenes():
    yield pytest.param("still", "hash-grid", {}, id="hash-grid")
    yield pytest.param("still", "hash-grid", {"precision": "float32"}, id="hash-grid-float32")
    extra = {"exposure": True, "refine_cameras": True}
    yield pytest.param("still", "hash-grid", extra, id="hash-grid-corrections")
    yield pytest.param("still", "cam", {}, id="cam-direction")
    position = {"modulation": "position", "modulation_resolution": [8, 8, 8], "norm": "layer"}
    yield pytest.param("still", "cam", position, id="cam-position")
    yield pytest.param("moving", "cam", {}, id="cam-moving")
    frequency = {"encoder": "frequency", "octaves": 4, "density_layers": 2, "head_learning_rate": 1e-2}
    yield pytest.param("moving", "cam", frequency, id="cam-moving-frequency")


@gpu
@pytest.mark.parametrize("data, method, settings", scenes())
def test_scene_on_gpu_moves_to_the_cpu_and_back(request, tmp_path, data, method, settings):
    capture, settings = request.getfixturevalue(data), {**SMALL, **settings}
    run = fs.train_scene(
        capture, tmp_path / "run", method=method, steps=150, settings=settings, device="cuda", quiet=True
    )
    assert run.config["device"] == "cuda"
    lines = run.metrics()
    assert lines[-1]["psnr"] > lines[0]["psnr"] + 1
    there = fs.evaluate(run)["psnr"]
    here = run.method("cpu").scene()
    capture = run.cameras_only
    cameras, index = capture.cameras, int(capture.splits["test"][0])
    far, near = (s.render_view(cameras, index)["colour"] for s in (run.scene(), here))
    assert near.device.type == far.device.type == "cpu"
    # bfloat16 on both sides at most: a shade, not another picture
    assert (far - near).abs().mean() < 0.01
    assert np.isfinite(there)
    run.config["device"] = "cpu"
    run.save_config()
    more = fs.train_scene(out=tmp_path / "run", resume=True, steps=170, quiet=True)
    assert more.metrics()[-1]["psnr"] > lines[0]["psnr"] + 1, "a run from the GPU goes on on the CPU"
    back = fs.train_scene(out=tmp_path / "run", resume=True, steps=190, device="cuda", quiet=True)
    assert back.metrics()[-1]["psnr"] > lines[0]["psnr"] + 1, "and back"


@gpu
def test_mesh_of_a_run_on_the_gpu(still, tmp_path):
    run = fs.train_scene(still, tmp_path / "run", steps=150, settings=SMALL, device="cuda", quiet=True)
    mesh = fs.export_mesh(run, tmp_path / "mesh.ply", method="marching-cubes", resolution=24, level=0.2)
    assert len(mesh.faces) > 0


@gpu
@pytest.mark.parametrize("model", ["cam", "fourier", "hash-grid"])
def test_image_on_gpu(tmp_path, model):
    run = fs.train_image(
        picture(tmp_path), tmp_path / "run", method=model, parameters=9000, steps=200, device="cuda", quiet=True,
    )  # fmt: skip
    assert fs.evaluate(run)["psnr"] > 22
    assert run.method("cpu").scene().values().shape == (40, 60, 3)


@gpu
@pytest.mark.parametrize("settings", [{}, {"neighbours": 1, "norm": True, "modulation_nodes": 3}])
def test_video_on_gpu(tmp_path, settings):
    folder = tmp_path / "frames"
    folder.mkdir()
    y, x = np.mgrid[:24, :36]
    for number in range(5):
        frame = np.stack([4 * x + 10 * number, 5 * y + 40, 200 - 3 * x], axis=2).astype(np.uint8)
        Image.fromarray(frame).save(folder / f"{number}.png")
    run = fs.train_video(
        folder, tmp_path / "run", parameters=6000, steps=200, settings=settings, device="cuda", quiet=True
    )
    there = run.scene().values(2.0)
    here = run.method("cpu").scene().values(2.0)
    assert fs.evaluate(run)["psnr"] > 22
    assert abs(there - here).mean() < 0.01


def test_methods_of_the_cpu_get_it_by_themselves(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto", method=method_class("hash-grid")) == "cuda"
    assert resolve_device("auto", method=method_class("dnmp")) == "cpu"
    assert resolve_device("cpu", method=method_class("hash-grid")) == "cpu"
    with pytest.raises(UserError, match="method hand runs on the CPU so far"):
        resolve_device("cuda", method=method_class("hand"))


def test_random_numbers_go_on_whatever_the_device_was():
    first, second = torch.Generator().manual_seed(3), torch.Generator()
    restore_generator(second, first.get_state())
    assert torch.equal(torch.rand(4, generator=first), torch.rand(4, generator=second))
    other = torch.arange(16, dtype=torch.uint8)  # as long as a CUDA generator's
    restore_generator(first, other)
    restore_generator(second, other)
    numbers = torch.rand(4, generator=first)
    assert torch.equal(numbers, torch.rand(4, generator=second))
    restore_generator(second, other + 1)
    assert not torch.equal(numbers, torch.rand(4, generator=second))
