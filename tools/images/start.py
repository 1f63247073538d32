"""A picture to a run: `train-image`, new or resumed."""

from __future__ import annotations

import os
from pathlib import Path

from ..pictures import to_uint8
from ..training.budget import Budget
from ..training.capture_record import data_record
from ..training.device import resolve_device
from ..training.image import ImageMethod
from ..training.loop import Outcome
from ..training.run import Run
from ..training.signal import resumable, say, train_signal
from .evaluation import score
from .picture import open_picture
from .report import write_image_report

__all__ = ["resume_image", "start_image"]


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
    method = ImageMethod(picture, {"head": 0, **(settings or {})}, seed=seed, device=place)
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
    run, budget = resumable(folder, "image", minutes, steps)
    picture = run.cameras_only
    if data is not None:
        picture = open_picture(data, picture.background)
    method = ImageMethod(
        picture, run.config["settings"], seed=run.config["seed"],
        device=resolve_device(run.config["device"], fall_back=True),
    )  # fmt: skip
    return run, _train(run, method, picture, budget, quiet)


def _train(run: Run, method: ImageMethod, picture, budget: Budget, quiet: bool) -> Outcome:
    outcome = train_signal(
        run,
        method,
        budget,
        summary=picture.summary(),
        preview=lambda: to_uint8(method.scene().values()),
        quiet=quiet,
    )
    if outcome.interrupted is not None:
        return outcome
    scores = score(method.scene(), method.options.protocol)
    write_image_report(run, method.scene(), outcome, scores)
    held_out = f", {scores['psnr_held_out']:.2f} dB on held-out pixels" if "psnr_held_out" in scores else ""
    say(
        f"{outcome.step} steps in {outcome.elapsed:.0f} s, {scores['psnr']:.2f} dB{held_out}; report: {run.report_path}",
        quiet,
    )
    return outcome
