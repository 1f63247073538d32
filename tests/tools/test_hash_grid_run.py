"""The hash-grid method through the loop and the commands, with settings small enough to take seconds."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import fieldstone as fs
from fieldstone.tools.training.checkpoint import load_checkpoint
from fieldstone.tools.training.hash_grid import HashGridMethod

sys.path.insert(0, str(Path(__file__).parent))
from test_commands import write_capture

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
def capture(tmp_path_factory) -> Path:
    return write_capture(tmp_path_factory.mktemp("data") / "ring", train=8, test=2, size=32)


class Interrupted(HashGridMethod):
    def before_step(self, step: int, progress: float) -> None:
        if step == 17:
            os.kill(os.getpid(), signal.SIGINT)
        super().before_step(step, progress)


@pytest.mark.parametrize("extra", [{}, {"exposure": True, "refine_cameras": True}])
def test_interrupted_and_resumed_equals_uninterrupted(capture, tmp_path, monkeypatch, extra):
    options = {"steps": 40, "settings": {**SMALL, **extra}, "quiet": True, "seed": 5}
    whole = fs.train_scene(capture, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        patch.setattr("fieldstone.tools.training.hash_grid.HashGridMethod", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            fs.train_scene(capture, tmp_path / "parts", **options)
    parts = fs.train_scene(out=tmp_path / "parts", resume=True, quiet=True)
    left, right = (load_checkpoint(run.checkpoint_path)[0] for run in (whole, parts))
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert different == []


def test_a_run_is_rendered_evaluated_and_meshed(capture, tmp_path):
    run = fs.train_scene(capture, tmp_path / "run", steps=120, settings=SMALL, quiet=True)
    lines = run.metrics()
    assert lines[-1]["psnr"] > lines[0]["psnr"] + 1
    scores = fs.evaluate(run)
    assert np.isfinite(scores["psnr"])
    out = fs.render_views(run, "orbit", tmp_path / "orbit.mp4", frames=2)
    assert out.stat().st_size > 0
    again = fs.load_run(run.folder)
    assert fs.evaluate(again)["psnr"] == scores["psnr"], "what is loaded is what was trained"
    mesh = fs.export_mesh(again, tmp_path / "mesh.ply", method="marching-cubes", resolution=24, level=0.2)
    assert len(mesh.faces) > 0
    box = np.asarray(again.scene().core_box())
    reach = 2 * (box[1] - box[0]).max() / 24  # settling moves a vertex by up to two cells
    assert (mesh.bounds[0] >= box[0] - reach).all()
    assert (mesh.bounds[1] <= box[1] + reach).all()
