"""A run from its beginning to its report, and the same from where it was left."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fieldstone.core.errors import UserError

from .budget import Budget
from .run import Run

__all__ = ["default_out", "resume_run", "start_run"]

_DEFAULT_MINUTES = {"cpu": 5.0, "cuda": 1.0}
_BUNDLED_MINUTES = {"cpu": 1.0, "cuda": 0.25}


def default_out(data: str | os.PathLike | None) -> Path:
    """`runs/<name>` for data at `.../<name>` or `.../<name>.mp4`; `runs/bundled` for None."""
    from .capture_record import BUNDLED

    if data is None:
        return Path("runs") / BUNDLED
    path = Path(data).resolve()
    return Path("runs") / ((path.name if path.is_dir() else path.stem) or "scene")


def start_run(
    data: str | os.PathLike | None,
    out: str | os.PathLike | None,
    *,
    minutes: float | None,
    steps: int | None,
    method: str,
    downscale: float,
    holdout: int | None,
    seed: int,
    settings: dict,
    device: str,
    quiet: bool,
    block_size: float | None = None,
    blocks: str | os.PathLike | None = None,
):
    """Opens the data, trains a new run in `out` and writes its report; returns (Run, Outcome).

    With `block_size` or `blocks` it is trained in blocks (`..blocks.train`), each for the budget. Whatever is wrong with the
    arguments, the folder or the data is said before anything is written.
    """
    import fieldstone

    from .capture_record import data_record, describe_capture, open_data
    from .device import resolve_device
    from .methods import method_class

    folder = Path(out) if out is not None else default_out(data)
    cls = method_class(method)
    place = resolve_device(device, method=cls)
    if minutes is None and steps is None:
        minutes = (_BUNDLED_MINUTES if data is None else _DEFAULT_MINUTES)[place]
    budget = Budget(minutes, steps)
    if data is None and (downscale != 1 or holdout is not None):
        raise UserError(
            "the bundled scene has one size and its own test views; --downscale and --holdout go with DATA"
        )
    if block_size is not None or blocks is not None:
        from ..blocks.train import create_blocks, train_blocks

        run, capture = create_blocks(
            data,
            folder,
            size=block_size,
            blocks=blocks,
            budget=budget,
            method=method,
            downscale=downscale,
            holdout=holdout,
            seed=seed,
            settings=settings,
            device=device,
        )
        return run, train_blocks(run, capture=capture, data=data, quiet=quiet)
    Run.check_free(folder)
    if data is not None and not Path(data).exists():
        raise UserError(f"{data}: no such file or folder")
    record = data_record(folder, data, downscale, holdout)
    capture = open_data(folder, record, data)
    trainer = cls(capture, settings, seed=seed, device=place)
    run = Run.create(
        folder,
        {
            "fieldstone": fieldstone.__version__,
            "method": method,
            "settings": trainer.settings,
            "seed": seed,
            "device": place,
            "budget": budget.to_json(),
            "data": record,
            "capture": {
                "name": capture.name,
                "format": capture.format,
                "frames": len(capture.names),
                "splits": {name: len(index) for name, index in capture.splits.items()},
                "frame": "source",
            },
        },
        describe_capture(capture),
    )
    try:
        return run, _train(run, trainer, capture, budget, quiet)
    except UserError:
        # an image that cannot be read shows only in training: then nothing half-made may stay in the way
        if not run.checkpoint_path.exists():
            run.discard()
        raise


def resume_run(
    folder: Path,
    *,
    data: str | os.PathLike | None,
    minutes: float | None,
    steps: int | None,
    device: str,
    quiet: bool,
    capture=None,
):
    """Goes on with a run as it was started; a new budget counts for the whole run, or for each block of one in blocks.

    capture: the run's data, where they are open already. Returns (Run, Outcome); of blocks, the outcome of the last one, or None when all
    were finished.
    """
    from .capture_record import open_data
    from .device import resolve_device
    from .methods import method_class

    run = Run.open(folder)
    config = run.config
    if "packed" in config:
        raise UserError(f"{folder}: unpacked from a packed file, which keeps no optimiser; train a new run")
    if "edited" in config:
        raise UserError(
            f"{folder}: an edited scene, which keeps no optimiser; go on with the run it was made from"
        )
    if "blocks" in config:
        from ..blocks.train import train_blocks

        outcome = train_blocks(run, data=data, minutes=minutes, steps=steps, device=device, quiet=quiet)
        return run, outcome
    if run.kind != "scene":
        raise UserError(f"{folder}: a run of an {run.kind}; go on with it by train-{run.kind} --resume")
    if minutes is None and steps is None:
        budget = Budget(**config["budget"])
    else:
        budget = Budget(minutes, steps)
    cls = method_class(config["method"])
    wanted = config["device"] if device == "auto" else device
    place = resolve_device(wanted, fall_back=device == "auto", method=cls)
    capture = open_data(folder, config["data"], data) if capture is None else capture
    if tuple(capture.names) != run.cameras_only.names:
        raise UserError(
            f"{capture.folder}: not the capture that run {folder} was trained on: its frames differ; "
            "train it as a new run"
        )
    trainer = cls(capture, config["settings"], seed=config["seed"], device=place)
    return run, _train(run, trainer, capture, budget, quiet)


def _train(run: Run, method, capture, budget: Budget, quiet: bool):
    from fieldstone.core.backends import chosen

    from .loop import train
    from .previews import write_preview
    from .progress import progress_display
    from .report import write_report

    say = _silent if quiet else _say
    config = run.config
    for line in capture.summary():
        say(line)
    say(
        f"training {config['method']} for {budget.describe()} on the {config['device'].upper()}, "
        f"seed {config['seed']}; run in {run.folder}"
    )
    outcome = train(
        method,
        run,
        minutes=budget.minutes,
        steps=budget.steps,
        preview=lambda step: write_preview(run, method.scene(), capture, step),
        display=progress_display(quiet),
    )
    config["budget"] = budget.to_json()
    config["backends"] = chosen() or config.get("backends", {})
    run.save_config()
    if outcome.interrupted is not None:
        say(f"saved at step {outcome.step}; go on with: train-scene --out {run.folder} --resume")
        return outcome
    summary = write_report(run, method.scene(), capture, outcome)
    say(f"{outcome.step} steps in {outcome.elapsed:.0f} s{summary}; report: {run.report_path}")
    return outcome


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _silent(line: str) -> None:
    pass
