"""Run folders and checkpoints: created, opened, refused, moved, never overwritten."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from fieldstone.core.errors import UserError
from fieldstone.tools.training.capture_record import data_record
from fieldstone.tools.training.checkpoint import load_checkpoint, save_checkpoint
from fieldstone.tools.training.run import RUN_FORMAT, Run

CONFIG = {"method": "tiny", "settings": {"a": 1}, "data": {"bundled": True}, "seed": 3, "device": "cpu"}


def test_created_and_opened(tmp_path):
    Run.create(tmp_path / "run", CONFIG, {"names": []})
    run = Run.open(tmp_path / "run")
    assert run.config == {"format": RUN_FORMAT, **CONFIG}
    assert run.metrics() == []


def test_an_existing_run_is_not_overwritten(tmp_path):
    Run.create(tmp_path, CONFIG, {})
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(UserError, match=r"--resume.*--out"):
        Run.create(tmp_path, CONFIG | {"seed": 4}, {})
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="not empty"):
        Run.create(tmp_path, CONFIG, {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="is a file"):
        Run.create(tmp_path / "run", CONFIG, {})


def test_what_a_kill_before_config_json_leaves_is_no_obstacle(tmp_path):
    (tmp_path / "capture.json").write_text("{}")
    (tmp_path / ".config.ab12.tmp.json").write_text("{")
    (tmp_path / "colmap").mkdir()
    Run.create(tmp_path, CONFIG, {})
    assert Run.exists(tmp_path)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "cannot be read"),
        ("[]", "JSON object"),
        ("{}", "no 'format'"),
        (json.dumps({**CONFIG, "format": RUN_FORMAT + 1, "fieldstone": "9.0"}), "format 2.*9.0"),
        (json.dumps({**CONFIG, "format": RUN_FORMAT, "seed": "three"}), "'seed'"),
        (json.dumps({"format": RUN_FORMAT}), "'method'"),
    ],
)
def test_a_damaged_or_foreign_config_is_one_clear_line(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        Run.open(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_folders_and_folders_that_are_no_run(tmp_path):
    with pytest.raises(UserError, match="no such run"):
        Run.open(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is no run"):
        Run.open(tmp_path)


def test_the_data_is_recorded_relative_to_the_run(tmp_path):
    record = data_record(tmp_path / "runs" / "fox", tmp_path / "data" / "fox", 2, None)
    assert record == {"bundled": False, "path": "../../data/fox", "downscale": 2, "holdout": None}
    assert data_record(tmp_path, None, 1, None)["bundled"] is True


def test_checkpoints_keep_every_bit_and_dtype(tmp_path):
    shared = torch.arange(6.0)
    tensors = {
        "weights": torch.randn(5, 3, generator=torch.Generator().manual_seed(0)),
        "half": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
        "counts": torch.tensor([1, 2**31 - 1], dtype=torch.int32),
        "generator": torch.Generator().manual_seed(1).get_state(),
        "strided": torch.arange(12.0).reshape(3, 4).T,
        "view": shared[:3],
        "whole": shared,
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
    }
    record = {"position": {"step": 3, "elapsed": 0.1 + 0.2}}
    save_checkpoint(tmp_path / "c.safetensors", tensors, record)
    loaded, back = load_checkpoint(tmp_path / "c.safetensors")
    assert back["position"] == record["position"]
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor), name


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, 0.999])
def test_a_cut_off_checkpoint_is_one_clear_line(tmp_path, keep):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, {"a": torch.zeros(1000)}, {})
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(UserError, match="damaged") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_foreign_and_absent_checkpoints(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(UserError, match="did not write"):
        load_checkpoint(tmp_path / "foreign.safetensors")
    record = json.dumps({"format": 99})
    save_file({"a": torch.zeros(2)}, tmp_path / "newer.safetensors", metadata={"fieldstone": record})
    with pytest.raises(UserError, match="format 99"):
        load_checkpoint(tmp_path / "newer.safetensors")
    with pytest.raises(UserError, match="no checkpoint"):
        load_checkpoint(tmp_path / "absent.safetensors")


_FULL_DISK = """
import resource, signal, sys
import torch
from fieldstone.core.errors import UserError
from fieldstone.tools.training.checkpoint import save_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_checkpoint(sys.argv[1], {"a": torch.ones(1_000_000)}, {})
except UserError as error:
    print(error)
    sys.exit(2)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file to test with")
def test_when_writing_fails_the_previous_checkpoint_stays(tmp_path):
    """A limit on the size of files stands in for a full disk: the same write fails in the same way."""
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, {"a": torch.zeros(10)}, {"position": 1})
    before = path.read_bytes()
    child = subprocess.run([sys.executable, "-c", _FULL_DISK, str(path)], capture_output=True, text=True)
    assert child.returncode == 2, child.stderr
    assert "cannot be written" in child.stdout
    assert child.stdout.count("\n") == 1
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_metrics_survive_a_line_that_was_cut_off(tmp_path):
    run = Run.create(tmp_path, CONFIG, {})
    run.metrics_path.write_text('{"step": 10, "psnr": 1.0}\n{"step": 20}\n{"step": 3')
    assert [line["step"] for line in run.metrics()] == [10, 20]
    run.truncate_metrics(10)
    assert run.metrics_path.read_text() == '{"step": 10, "psnr": 1.0}\n'


def test_discard_removes_only_what_the_run_wrote(tmp_path):
    run = Run.create(tmp_path / "run", CONFIG, {})
    (run.folder / "colmap").mkdir()
    run.discard()
    assert [path.name for path in run.folder.iterdir()] == ["colmap"]
