"""A large scene trained block by block: a parent run that names its blocks, each a run of its own in a folder inside it."""

from __future__ import annotations

import gc
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

from fieldstone.core.errors import UserError

from ..training.budget import Budget
from ..training.capture_record import data_record, describe_capture, open_data
from ..training.checkpoint import load_checkpoint
from ..training.device import resolve_device
from ..training.dnmp_settings import dnmp_settings
from ..training.methods import method_class
from ..training.run import Run
from .plan import plan_blocks, read_blocks, within

__all__ = ["create_blocks", "train_blocks"]


def create_blocks(
    data: str | os.PathLike | None,
    out: str | os.PathLike,
    *,
    size: float | None = None,
    blocks: str | os.PathLike | None = None,
    budget: Budget,
    method: str,
    downscale: float,
    holdout: int | None,
    seed: int,
    settings: dict,
    device: str,
):
    """Writes the parent run and its blocks, untrained, and returns the parent and the capture. `blocks` is a file, see `read_blocks`.

    Each block can then be trained by `train-scene --out OUT/blocks/NNN --resume`, anywhere and in any order. Raises UserError.
    """
    import fieldstone

    folder = Path(out)
    if method != "dnmp":
        raise UserError(f"blocks: method {method} does not train in blocks; use --method dnmp")
    if data is None:
        raise UserError("blocks: the bundled scene is one piece; give DATA")
    if not Path(data).exists():
        raise UserError(f"{data}: no such file or folder")
    Run.check_free(folder)
    options = dnmp_settings(settings)
    if options.exposure:
        raise UserError(
            "blocks: exposure is learned up to a common factor, which would differ between blocks"
        )
    record = data_record(folder, data, downscale, holdout)
    capture = open_data(folder, record, data)
    planned = plan_blocks(capture, size) if blocks is None else read_blocks(blocks)
    parts = [within(capture, block) for block in planned]
    names = [f"blocks/{block.index:03d}" for block in planned]
    config = {
        "fieldstone": fieldstone.__version__,
        "method": method,
        "settings": asdict(options),
        "seed": seed,
        "device": resolve_device(device, method=method_class(method)),
        "budget": budget.to_json(),
    }

    def described(each) -> dict:
        splits = {name: len(index) for name, index in each.splits.items()}
        return {
            "name": each.name,
            "format": each.format,
            "frames": len(each.names),
            "splits": splits,
            "frame": "source",
        }

    parent = Run.create(
        folder,
        config | {"data": record, "capture": described(capture), "blocks": names},
        describe_capture(capture),
    )
    for block, part, name in zip(planned, parts, names):
        inside = folder / name
        own = data_record(inside, data, downscale, holdout) | {"block": block.to_json()}
        Run.create(inside, config | {"data": own, "capture": described(part)}, describe_capture(part))
    return parent, capture


def train_blocks(
    parent: Run,
    *,
    capture=None,
    data: str | os.PathLike | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    device: str = "auto",
    quiet: bool = False,
):
    """Trains what is left of each block, one after another; a new budget counts for each. Returns the outcome of the last one, or None if
    there was nothing left to do. The data are opened once."""
    from ..training.start import resume_run

    outcome = None
    for number, name in enumerate(parent.config["blocks"]):
        run = Run.open(parent.folder / str(name))
        budget = (
            Budget(**run.config["budget"]) if minutes is None and steps is None else Budget(minutes, steps)
        )
        if _finished(run, budget):
            continue
        if capture is None:
            capture = open_data(parent.folder, parent.config["data"], data)
        if not quiet:
            print(f"block {number + 1} of {len(parent.config['blocks'])}", file=sys.stderr, flush=True)
        planned = run.cameras_only
        part = replace(capture, splits=planned.splits, block=planned.block)
        _, outcome = resume_run(
            run.folder, data=data, minutes=minutes, steps=steps, device=device, quiet=quiet, capture=part
        )
        gc.collect()
        if outcome.interrupted is not None:
            break
    return outcome


def _finished(run: Run, budget: Budget) -> bool:
    if not run.checkpoint_path.is_file():
        return False
    _, record = load_checkpoint(run.checkpoint_path, "no tensor")
    position = record.get("position", {})
    return budget.progress(position.get("step", 0), position.get("elapsed", 0.0)) >= 1
