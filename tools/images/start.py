"""A picture to a run: `train-image`, new or resumed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_write_bytes

from ..pictures import encode, shrink, to_uint8
from ..training.budget import Budget
from ..training.capture_record import data_record
from ..training.device import resolve_device
from ..training.image import ImageMethod
from ..training.loop import Outcome, train
from ..training.progress import progress_display
from ..training.run import Run
from .evaluation import score
from .picture import open_picture
from .report import write_image_report

__all__ = ["resume_image", "start_image"]

_PREVIEW = 480


def start_image(
    data: str | os.PathLike,
    out: str | os.PathLike,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    settings: dict | None = None,
    background: str | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> tuple[Run, Outcome]:
    """Trains a new run in `out` on the image file `data` and writes its report; `UserError` before anything is written."""
    import fieldstone

    folder = Path(out)
    if minutes is None and steps is None:
        minutes = 2.0
    budget = Budget(minutes, steps)
    Run.check_free(folder)
    place = resolve_device(device)
    picture = open_picture(data, background)
    method = ImageMethod(picture, settings or {}, seed=seed, device=place)
    run = Run.create(
        folder,
        {
            "fieldstone": fieldstone.__version__,
            "kind": "image",
            "method": "image",
            "settings": method.settings,
            "seed": seed,
            "device": place,
            "budget": budget.to_json(),
            "data": data_record(folder, data, 1, None),
        },
        picture.to_json(),
    )
    return run, _train(run, method, picture, budget, quiet)


def resume_image(
    folder: str | os.PathLike,
    *,
    data: str | os.PathLike | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    quiet: bool = False,
) -> tuple[Run, Outcome]:
    """Goes on with a run as it was started; a new budget counts for the whole run."""
    run = Run.open(folder)
    if run.kind != "image":
        raise UserError(f"{folder}: a run of a scene; go on with it by train-scene --resume")
    if "packed" in run.config:
        raise UserError(f"{folder}: unpacked from a packed file, which keeps no optimiser; train a new run")
    if minutes is None and steps is None:
        budget = Budget(**run.config["budget"])
    else:
        budget = Budget(minutes, steps)
    picture = run.cameras_only
    if data is not None:
        picture = open_picture(data, picture.background)
    method = ImageMethod(
        picture, run.config["settings"], seed=run.config["seed"],
        device=resolve_device(run.config["device"], fall_back=True),
    )  # fmt: skip
    return run, _train(run, method, picture, budget, quiet)


def _train(run: Run, method: ImageMethod, picture, budget: Budget, quiet: bool) -> Outcome:
    def say(line: str) -> None:
        if not quiet:
            print(line, file=sys.stderr, flush=True)

    def preview(step: int) -> None:
        shown = shrink(to_uint8(method.scene().values()), _PREVIEW)
        atomic_write_bytes(run.previews / f"step_{step:07d}.jpg", encode(shown, "jpeg"))

    for line in picture.summary():
        say(line)
    options = method.options
    say(
        f"training {options.model} with {method.field.parameters_count():,} parameters for {budget.describe()} on the "
        f"{run.config['device'].upper()}, seed {run.config['seed']}; run in {run.folder}"
    )
    outcome = train(
        method,
        run,
        minutes=budget.minutes,
        steps=budget.steps,
        preview=preview,
        display=progress_display(quiet),
    )
    run.config["budget"] = budget.to_json()
    run.save_config()
    if outcome.interrupted is not None:
        say(f"saved at step {outcome.step}; go on with: fieldstone train-image --out {run.folder} --resume")
        return outcome
    scores = score(method.scene(), options.protocol)
    write_image_report(run, method.scene(), outcome, scores)
    held_out = f", {scores['psnr_held_out']:.2f} dB on held-out pixels" if "psnr_held_out" in scores else ""
    say(
        f"{outcome.step} steps in {outcome.elapsed:.0f} s, {scores['psnr']:.2f} dB{held_out}; report: {run.report_path}"
    )
    return outcome
