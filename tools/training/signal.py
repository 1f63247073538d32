"""What runs of images and videos share: one file is learned, and nothing but the file decides its sizes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_write_bytes

from ..pictures import encode, shrink
from .budget import Budget
from .loop import Outcome, train
from .progress import progress_display
from .run import Run

if TYPE_CHECKING:
    import numpy as np

__all__ = ["resumable", "say", "train_signal"]

_PREVIEW = 480


def say(line: str, quiet: bool) -> None:
    """A line for the person at the terminal, unless it was asked to be quiet."""
    if not quiet:
        print(line, file=sys.stderr, flush=True)


def resumable(
    folder: str | os.PathLike, kind: str, minutes: float | None, steps: int | None
) -> tuple[Run, Budget]:
    """The run of `kind` in `folder` and its budget, or the one given, which counts for the whole run; `UserError` for another kind of
    run and for one that was unpacked."""
    run = Run.open(folder)
    if run.kind != kind:
        raise UserError(
            f"{folder}: a run of {'an image' if run.kind == 'image' else f'a {run.kind}'}; "
            f"go on with it by train-{run.kind} --resume"
        )
    if "packed" in run.config:
        raise UserError(f"{folder}: unpacked from a packed file, which keeps no optimiser; train a new run")
    given = minutes is not None or steps is not None
    return run, Budget(minutes, steps) if given else Budget(**run.config["budget"])


def train_signal(
    run: Run,
    method,
    budget: Budget,
    *,
    summary: Iterable[str],  # lines about the data
    preview: Callable[[], np.ndarray],  # (h, w, 3) uint8, what is learned so far
    quiet: bool,
) -> Outcome:
    """Trains until the budget is used up or it is interrupted; what to say before and after an interruption is said."""

    def save_preview(step: int) -> None:
        atomic_write_bytes(run.previews / f"step_{step:07d}.jpg", encode(shrink(preview(), _PREVIEW), "jpeg"))

    for line in summary:
        say(line, quiet)
    say(
        f"training {method.options.model} with {method.field.parameters_count():,} parameters for {budget.describe()} on the "
        f"{run.config['device'].upper()}, seed {run.config['seed']}; run in {run.folder}",
        quiet,
    )
    outcome = train(
        method,
        run,
        minutes=budget.minutes,
        steps=budget.steps,
        preview=save_preview,
        display=progress_display(quiet),
    )
    run.config["budget"] = budget.to_json()
    run.save_config()
    if outcome.interrupted is not None:
        say(
            f"saved at step {outcome.step}; go on with: fieldstone train-{run.kind} --out {run.folder} --resume",
            quiet,
        )
    return outcome
