"""The training loop: exact resume, skipped steps, divergence, signals and kills."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fieldstone.core.errors import UserError
from fieldstone.tools.training.checkpoint import load_checkpoint
from fieldstone.tools.training.loop import train
from fieldstone.tools.training.run import Run

sys.path.insert(0, str(Path(__file__).parent))
from tiny_method import TinyMethod

TIMES = ("elapsed", "rays_per_second", "samples_per_second")
CONFIG = {"method": "tiny", "settings": {}, "data": {"bundled": True}, "seed": 3, "device": "cpu"}


def new_run(folder: Path) -> Run:
    return Run.create(folder, CONFIG, {})


def tiny(**settings) -> TinyMethod:
    return TinyMethod(None, settings, seed=3, device="cpu")


def untimed(run: Run) -> list[dict]:
    return [{key: value for key, value in line.items() if key not in TIMES} for line in run.metrics()]


def same_tensors(a: Run, b: Run) -> None:
    left, right = load_checkpoint(a.checkpoint_path)[0], load_checkpoint(b.checkpoint_path)[0]
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


class StopAt(TinyMethod):
    """Sends this process a signal in the middle of a step."""

    def __init__(self, *arguments, stop_at: int, number: int, **keywords) -> None:
        super().__init__(*arguments, **keywords)
        self.stop_at, self.number = stop_at, number

    def before_step(self, step: int, progress: float) -> None:
        if step == self.stop_at:
            os.kill(os.getpid(), self.number)


def test_it_learns_and_logs(tmp_path):
    run = new_run(tmp_path / "run")
    outcome = train(tiny(), run, steps=400)
    assert (outcome.step, outcome.interrupted, outcome.skipped) == (400, None, 0)
    lines = run.metrics()
    assert [line["step"] for line in lines] == list(range(10, 401, 10))
    assert lines[-1]["psnr"] > lines[0]["psnr"] + 8
    assert lines[-1]["total_rays"] == 400 * 64
    assert lines[-1]["total_samples"] == 400 * 128


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, number):
    whole = new_run(tmp_path / "whole")
    train(tiny(), whole, steps=97)

    parts = new_run(tmp_path / "parts")
    handler = signal.getsignal(number)
    outcome = train(StopAt(None, {}, seed=3, device="cpu", stop_at=41, number=number), parts, steps=97)
    assert (outcome.step, outcome.interrupted) == (42, number)
    assert signal.getsignal(number) is handler
    outcome = train(tiny(), parts, steps=97)
    assert (outcome.step, outcome.interrupted) == (97, None)

    same_tensors(whole, parts)
    assert untimed(whole) == untimed(parts)
    positions = [load_checkpoint(run.checkpoint_path)[1]["position"]["rays"] for run in (whole, parts)]
    assert positions[0] == positions[1] == 97 * 64


def test_another_seed_is_another_run(tmp_path):
    """Guards the test above: it could not fail if the steps did not depend on the generator."""
    one, other = new_run(tmp_path / "one"), new_run(tmp_path / "other")
    train(tiny(), one, steps=20)
    train(TinyMethod(None, {}, seed=4, device="cpu"), other, steps=20)
    assert untimed(one) != untimed(other)


def test_lines_after_the_checkpoint_are_dropped_on_resume(tmp_path):
    run = new_run(tmp_path / "run")
    train(tiny(), run, steps=30)
    with open(run.metrics_path, "a", encoding="utf-8") as file:
        file.write(json.dumps({"step": 40, "psnr": 99.0}) + "\n" + '{"step": 50, "ps')
    train(tiny(), run, steps=60)
    assert [line["step"] for line in run.metrics()] == [10, 20, 30, 40, 50, 60]
    assert all(line["psnr"] < 90 for line in run.metrics())


def test_a_used_up_budget_does_nothing_and_a_larger_one_goes_on(tmp_path):
    run = new_run(tmp_path / "run")
    train(tiny(), run, steps=20)
    before = run.checkpoint_path.read_bytes()
    assert train(tiny(), run, steps=20).step == 20
    assert run.checkpoint_path.read_bytes() == before
    assert train(tiny(), run, steps=25).step == 25


def test_minutes_end_the_run(tmp_path):
    run = new_run(tmp_path / "run")
    outcome = train(tiny(sleep=0.01), run, minutes=0.5 / 60)
    assert outcome.elapsed >= 0.5
    assert 3 <= outcome.step <= 60


@pytest.mark.parametrize(
    "budget", [{}, {"minutes": 0}, {"minutes": float("nan")}, {"steps": 0}, {"steps": -3}]
)
def test_bad_budgets_are_refused(tmp_path, budget):
    with pytest.raises(UserError):
        train(tiny(), new_run(tmp_path / "run"), **budget)


def test_a_step_with_a_non_finite_gradient_is_skipped_and_counted(tmp_path):
    run = new_run(tmp_path / "run")
    outcome = train(tiny(poison=7), run, steps=20)
    assert outcome.skipped == 1
    tensors, _ = load_checkpoint(run.checkpoint_path)
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    assert int(tensors["optimiser.1.count"].max()) == 19


def test_a_nan_loss_stops_with_the_checkpoint_kept(tmp_path):
    run = new_run(tmp_path / "run")
    train(tiny(), run, steps=10)
    before = run.checkpoint_path.read_bytes()
    with pytest.raises(UserError, match="nan at step 15"):
        train(tiny(poison_loss=15), run, steps=20)
    assert run.checkpoint_path.read_bytes() == before


def test_previews_come_along_the_way_and_leave_the_run_as_it_is(tmp_path):
    seen: list[int] = []
    plain, with_previews = new_run(tmp_path / "plain"), new_run(tmp_path / "previews")
    train(tiny(), plain, steps=800)
    train(tiny(), with_previews, steps=800, preview=seen.append)
    assert seen == [300, 400, 800], "none before a scene has settled"
    same_tensors(plain, with_previews)


def test_two_processes_cannot_train_one_run(tmp_path):
    run = new_run(tmp_path / "run")
    with run.training_lock(), pytest.raises(UserError, match="another process"):
        train(tiny(), run, steps=5)


_CHILD = """
import sys
import torch
torch.set_num_threads(1)
from tiny_method import TinyMethod
from fieldstone.tools.training.loop import train
from fieldstone.tools.training.run import Run
class Announced(TinyMethod):
    steps = 0
    def before_step(self, step, progress):
        self.steps += 1
        if self.steps == 2:
            print("training", flush=True)
run = Run.open(sys.argv[1])
outcome = train(Announced(None, {"cells": 64}, seed=3, device="cpu"), run, steps=int(sys.argv[2]),
checkpoint_seconds=0.02)
print("step", outcome.step, flush=True)
"""


def child(run: Run, steps: int) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(run.folder), str(steps)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def test_killed_ten_times_it_always_resumes(tmp_path):
    """SIGKILL at random moments, with checkpoints so frequent that many of the kills fall into a save."""
    run, moments = new_run(tmp_path / "run"), random.Random(0)
    reached = 0
    for _ in range(10):
        process = child(run, 10**6)
        assert process.stdout.readline() == "training\n"
        time.sleep(moments.uniform(0.0, 0.4))
        process.kill()
        process.wait()
        if run.checkpoint_path.exists():
            step = load_checkpoint(run.checkpoint_path)[1]["position"]["step"]
            assert step >= reached
            reached = step
    assert reached > 0
    process = child(run, reached + 50)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"step {reached + 50}" in out
    steps = [line["step"] for line in run.metrics()]
    assert steps == sorted(set(steps))
    assert not list(run.folder.glob(".*.tmp.*")), "what killed writers left is cleared away"
