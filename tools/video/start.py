"""A video to a run: `train-video`, new or resumed."""

from __future__ import annotations

import os
from pathlib import Path

from ..training.budget import Budget
from ..training.capture_record import data_record
from ..training.device import resolve_device
from ..training.loop import Outcome
from ..training.run import Run
from ..training.signal import resumable, say, train_signal
from ..training.video import VideoMethod
from .clip import Clip, open_clip
from .evaluation import score
from .report import write_video_report

__all__ = ["resume_video", "start_video"]

_MINUTES = 5.0


def start_video(
    data: str | os.PathLike,
    out: str | os.PathLike,
    *,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    settings: dict | None = None,
    device: str = "auto",
    quiet: bool = False,
    report: bool = True,  # measure all frames at the end and write report.html
) -> tuple[Run, Outcome]:
    """Trains a new run in `out` on the video `data` and writes its report; `UserError` before anything is written."""
    import fieldstone

    folder = Path(out)
    if minutes is None and steps is None:
        minutes = _MINUTES
    budget = Budget(minutes, steps)
    Run.check_free(folder)
    place = resolve_device(device)
    clip = open_clip(data, size=size, fps=fps)
    method = VideoMethod(clip, settings or {}, seed=seed, device=place)
    run = Run.create(
        folder,
        {
            "fieldstone": fieldstone.__version__,
            "kind": "video",
            "method": "video",
            "settings": method.settings,
            "seed": seed,
            "device": place,
            "budget": budget.to_json(),
            "data": data_record(folder, data, 1, None),
        },
        clip.to_json(),
    )
    return run, _train(run, method, clip, budget, quiet, report)


def resume_video(
    folder: str | os.PathLike,
    *,
    data: str | os.PathLike | None = None,  # where the video is now
    minutes: float | None = None,
    steps: int | None = None,
    quiet: bool = False,
    report: bool = True,
) -> tuple[Run, Outcome]:
    """Goes on with a run as it was started; a new budget counts for the whole run."""
    run, budget = resumable(folder, "video", minutes, steps)
    clip = run.cameras_only if data is None else run.cameras_only.moved(data)
    method = VideoMethod(
        clip, run.config["settings"], seed=run.config["seed"],
        device=resolve_device(run.config["device"], fall_back=True),
    )  # fmt: skip
    return run, _train(run, method, clip, budget, quiet, report)


def _train(run: Run, method: VideoMethod, clip: Clip, budget: Budget, quiet: bool, report: bool) -> Outcome:
    clip.frame(0)  # a video that is not there is said before the progress begins
    outcome = train_signal(
        run,
        method,
        budget,
        summary=clip.summary(),
        preview=lambda: method.scene().frame(clip.frames // 2),
        quiet=quiet,
    )
    if outcome.interrupted is not None or not report:
        return outcome
    method.field.quantiser = None  # what the checkpoint holds, as every later reader sees it
    scores = score(method.scene())
    write_video_report(run, method.scene(), outcome, scores)
    say(
        f"{outcome.step} steps in {outcome.elapsed:.0f} s, {scores['psnr']:.2f} dB over all frames; report: {run.report_path}",
        quiet,
    )
    return outcome
