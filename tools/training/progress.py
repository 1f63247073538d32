"""What a person sees while a run trains: a live bar on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

__all__ = ["Bar", "Display", "Lines", "Silent", "duration", "progress_display", "rate"]

_WAIT_BEFORE_SAYING = 3.0


class Display:
    """Takes the state of a training after each step, entered for its time; this one shows nothing."""

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def start(self, step: int, share: float) -> None:
        """Called once, before the first step of the sitting."""

    @contextlib.contextmanager
    def waiting(self, why: str) -> Iterator[None]:
        """Around work that may take long without a step; `why` is shown if it does."""
        timer = threading.Timer(_WAIT_BEFORE_SAYING, self.say, [f"{why} ..."])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def say(self, line: str) -> None:
        """Shows one line."""

    def update(
        self,
        *,
        step: int,
        share: float,  # of the budget, in [0, 1]
        seconds_left: float | None,
        psnr: float | None,  # dB, mean over the last few batches
        rays_per_second: float | None,
        samples_per_second: float | None,
    ) -> None:
        """The state after a step; None where there is no value yet."""


class Silent(Display):
    """Shows nothing."""


class Lines(Display):
    """Plain lines, one each `interval` seconds: for logs and pipes."""

    def __init__(self, stream: TextIO | None = None, interval: float = 10.0) -> None:
        self.stream = stream if stream is not None else sys.stderr
        self.interval = interval
        self._last = 0.0

    def start(self, step: int, share: float) -> None:
        self._last = time.monotonic()

    def say(self, line: str) -> None:
        print(line, file=self.stream, flush=True)

    def update(self, *, step, share, seconds_left, psnr, rays_per_second, samples_per_second) -> None:
        now = time.monotonic()
        # a line needs its rates, which are missing just after a logged one
        if psnr is None or (share < 1 and now - self._last < self.interval):
            return
        self._last = now
        self.say(
            f"step {step:>7}  {100 * share:5.1f} %  PSNR {psnr:5.2f} dB  {rate(rays_per_second)} rays/s  "
            f"{rate(samples_per_second)} samples/s  {duration(seconds_left)} left"
        )


class Bar(Display):
    """A live bar drawn by rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>4.0f} %"),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True),
            refresh_per_second=5,
        )
        self._task = self._progress.add_task("training", total=1.0, text="")
        self._shown: dict[str, float] = {}

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def start(self, step: int, share: float) -> None:
        self._progress.update(self._task, completed=share)

    def say(self, line: str) -> None:
        self._progress.console.print(line, highlight=False, markup=False)

    def update(self, *, step, share, seconds_left, psnr, rays_per_second, samples_per_second) -> None:
        fresh = {"psnr": psnr, "rays": rays_per_second, "samples": samples_per_second}
        for name, value in fresh.items():
            if value is not None:
                # smoothed, so that the figures can be read
                self._shown[name] = 0.9 * self._shown.get(name, value) + 0.1 * value
        psnr_text = f"{self._shown['psnr']:.2f} dB" if "psnr" in self._shown else "-"
        text = (
            f"{psnr_text} · step {step} · {rate(self._shown.get('rays'))} rays/s · "
            f"{rate(self._shown.get('samples'))} samples/s · {duration(seconds_left)} left"
        )
        self._progress.update(self._task, completed=share, text=text)


def progress_display(quiet: bool = False) -> Display:
    """The bar on a terminal, plain lines elsewhere, nothing when `quiet`."""
    if quiet:
        return Silent()
    return Bar() if sys.stderr.isatty() else Lines()


def rate(value: float | None) -> str:
    """ "12.3 k", "1.20 M": three digits, or "-" for None."""
    if value is None:
        return "-"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """ "1 h 02 min", "3 min 05 s", "9 s", or "-" for None."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole} s"
