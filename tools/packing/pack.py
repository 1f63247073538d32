"""Runs into packed files and back.

A method that can be packed offers `packing()`, which names the tensors of its state that are quantised and those that are kept (and,
third, if it likes, those that are quantised finely: few numbers that matter, to at least its `fine_bits`),
and `unpacked(tensors)`, which makes a state of them that `load_state` takes. Optimiser and random generators are left out: an
unpacked run renders, evaluates and exports, and is not trained on.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_write_bytes

from ...fields.quantisation import check_bits
from ..training.capture_record import moved_record
from ..training.checkpoint import load_checkpoint, save_checkpoint
from ..training.loop import METHOD_PREFIX
from ..training.methods import method_class
from ..training.run import Run
from .container import EXACT, FINE, from_bytes, to_bytes

__all__ = ["open_run", "pack", "packed_bytes", "size_in_bytes", "unpack"]

_KEPT = ("fieldstone", "format", "method", "settings", "seed", "device", "kind", "capture", "data")


def packed_bytes(run: Run, bits: int, beside: Path | None = None) -> bytes:
    """The packed file of `run`, `bits` from 2 to 16 or 32 for exact; where its data is counts from the folder `beside`."""
    if bits != EXACT:
        check_bits(bits)
    method = run.method()
    if not hasattr(method, "packing"):
        raise UserError(f"{run.folder}: method {run.config['method']} cannot be packed")
    quantised, exact, *fine = method.packing()
    config = {key: run.config[key] for key in _KEPT if key in run.config}
    config["device"] = "cpu"
    if beside is not None:
        config["data"] = moved_record(config["data"], run.folder, beside)
    _, record = load_checkpoint(run.checkpoint_path)
    return to_bytes(
        {
            "bits": bits,
            "config": config,
            "capture": run.record(),
            "step": record.get("position", {}).get("step", 0),
        },
        quantised,
        exact,
        bits,
        *fine,
        fine_bits=getattr(method, "fine_bits", FINE),
    )


def pack(run: Run | str | os.PathLike, out: str | os.PathLike, *, bits: int = 8) -> int:
    """Writes `run` as one packed file and returns its size in bytes. Raises `UserError`.

    bits: 2 to 16, of weights and grids; what else is small stays exact (biases of images have 9 bits or more). 32 keeps everything exact.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    out = Path(out)
    if out.is_dir():
        raise UserError(f"{out}: is a folder; give the name of a file, NAME.fsp")
    data = packed_bytes(run, bits, out.parent)
    atomic_write_bytes(out, data)
    return len(data)


def size_in_bytes(run: Run) -> int | None:
    """The size of the packed file that `run` came from, or of one that keeps it exactly; None for methods that cannot be packed."""
    if "packed" in run.config:
        return int(run.config["packed"]["bytes"])
    if not hasattr(method_class(run.config["method"]), "packing"):
        return None
    return len(packed_bytes(run, EXACT))


def unpack(path: str | os.PathLike, folder: str | os.PathLike) -> Run:
    """Writes the packed file `path` as a run folder that renders, evaluates and packs as the run it came from."""
    path, folder = Path(path), Path(folder)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    record, tensors = from_bytes(data, str(path))
    Run.check_free(folder)
    try:
        config, capture = dict(record["config"]), dict(record["capture"])
        config["data"] = moved_record(config["data"], path.parent, folder)
        config["packed"] = {"bits": int(record["bits"]), "bytes": len(data)}
        config["budget"] = {"minutes": None, "steps": max(1, int(record["step"]))}
        config.pop("format", None)
        step = int(record["step"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged: its record has no {error}") from error
    run = Run.create(folder, config, capture)
    try:
        state = run.blank_method().unpacked(tensors)
        save_checkpoint(
            run.checkpoint_path,
            {METHOD_PREFIX + name: tensor for name, tensor in state.items()},
            {"position": {"step": step}},
        )
    except (KeyError, ValueError, RuntimeError) as error:
        run.discard()
        raise UserError(f"{path}: damaged: its tensors do not fit its settings ({error})") from error
    return run


def open_run(path: str | os.PathLike) -> Run:
    """The packed file `path` as a run, unpacked into a temporary folder that goes when the run does."""
    folder = tempfile.TemporaryDirectory(prefix="fieldstone-")
    run = unpack(path, Path(folder.name) / "run")
    run._temporary = folder
    return run
