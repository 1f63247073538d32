"""The one training loop: budget, optimiser, schedule, checkpoints, resume, metrics, for every method.

A step depends only on the state that a checkpoint holds and on the progress through the budget. With a budget
in steps a run that was interrupted and resumed therefore equals, bit for bit, one that was not (on the same
machine).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from fieldstone.core.backends import chosen
from fieldstone.core.errors import UserError

from ...fields.optim.adam import GridAdam
from ...fields.optim.schedule import learning_rate_factor
from .budget import Budget
from .checkpoint import load_checkpoint, save_checkpoint, select
from .interrupt import Interrupt
from .methods import Method, optimiser_groups
from .progress import Display, Silent
from .run import Run

__all__ = ["METHOD_PREFIX", "Outcome", "select", "train"]

METHOD_PREFIX = "method."
_OPTIMISER_PREFIX = "optimiser."
_MOST_SKIPPED_IN_A_ROW = 50
_PREVIEW_AT = (0.2, 0.5, 1.0)
_PREVIEW_FROM_STEP = 300
"""Before it a scene may still be fog all over, and a picture of fog costs more than the training so far."""


@dataclass(frozen=True)
class Outcome:
    """How one sitting of training ended."""

    step: int
    """Steps the run has done in all."""
    elapsed: float
    """Seconds of training in all, as `Budget` counts them."""
    compile_seconds: float
    """Length of this sitting's first step, which compiles kernels when they are not cached yet."""
    skipped: int
    """Steps in all whose gradient was not finite and was thrown away."""
    interrupted: int | None
    """The signal that ended it early, or None when the budget is used up."""


@dataclass
class _Position:
    """Where a run stands: everything the loop itself has to remember across a resume."""

    step: int = 0
    elapsed: float = 0.0
    rays: int = 0
    samples: int = 0
    skipped: int = 0
    window_steps: int = 0
    window_elapsed: float = 0.0
    """`elapsed` at the last logged line."""
    window: dict[str, float] = field(default_factory=dict)
    """Sums of the statistics since the last logged line."""


def train(
    method: Method,
    run: Run,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    preview: Callable[[int], None] | None = None,
    display: Display | None = None,
    checkpoint_seconds: float = 30.0,
    log_every: int = 10,
) -> Outcome:
    """Trains `method` in `run` until the budget is used up, from its checkpoint if it has one.

    minutes, steps: the budget of the whole run, see `Budget`. preview: called with the step a few times along
    the way. display: what shows the progress (None: nothing).
    SIGINT and SIGTERM end the current step, save, and return. Raises `UserError` when the loss is not a
    number, when gradients stay non-finite, when the disk is full, or when the checkpoint does not fit the
    method; the last good checkpoint is kept in each case.
    """
    budget = Budget(minutes, steps)
    with run.training_lock(), Interrupt() as interrupt:
        sitting = _Sitting(method, run, budget, display or Silent(), preview, checkpoint_seconds, log_every)
        return sitting.go(interrupt)


class _Sitting:
    """One process's share of a run."""

    def __init__(
        self,
        method: Method,
        run: Run,
        budget: Budget,
        display: Display,
        preview: Callable[[int], None] | None,
        checkpoint_seconds: float,
        log_every: int,
    ) -> None:
        self.method, self.run, self.budget, self.display, self.preview = method, run, budget, display, preview
        self.checkpoint_seconds, self.log_every = checkpoint_seconds, log_every
        self.groups = method.groups()
        self.optimiser = GridAdam(optimiser_groups(self.groups))
        self.position = _Position()
        self.skipped_in_a_row = 0
        self.compile_seconds = 0.0
        if run.checkpoint_path.exists():
            self._restore()
        run.truncate_metrics(self.position.step)

    def go(self, interrupt: Interrupt) -> Outcome:
        position = self.position
        share = self.budget.progress(position.step, position.elapsed)
        if share >= 1:
            return self._outcome(None)
        previews = [mark for mark in _PREVIEW_AT if mark > share] if self.preview else []
        first_preview = True
        with self.display, open(self.run.metrics_path, "a", encoding="utf-8") as self._log:
            self.display.start(position.step, share)
            self._first_step(share)
            clock = time.perf_counter() - position.elapsed
            saved = time.perf_counter()
            pause = self.checkpoint_seconds
            while True:
                position.elapsed = time.perf_counter() - clock
                share = self.budget.progress(position.step, position.elapsed)
                self._report(share)
                if previews and share >= previews[0] and (position.step >= _PREVIEW_FROM_STEP or share >= 1):
                    previews = [mark for mark in previews if mark > share]
                    began = time.perf_counter()
                    self.preview(position.step)
                    if first_preview:
                        clock += time.perf_counter() - began
                        first_preview = False
                if share >= 1 or interrupt.signal is not None:
                    break
                if time.perf_counter() - saved > pause:
                    began = time.perf_counter()
                    self._save()
                    saved = time.perf_counter()
                    # on a slow disk saving must not eat more than a twentieth of the budget
                    pause = max(self.checkpoint_seconds, 20 * (saved - began))
                self._step(share)
            self._save()
        return self._outcome(interrupt.signal if share < 1 else None)

    def _first_step(self, share: float) -> None:
        """Not on the clock: kernels that are not in the cache yet are compiled in it."""
        began = time.perf_counter()
        with self.display.waiting("compiling kernels, once per machine"):
            self._step(share)
        self.compile_seconds = time.perf_counter() - began
        used = ", ".join(f"{name} {backend}" for name, backend in sorted(chosen().items()))
        self.display.say(f"back ends: {used}")

    def _step(self, share: float) -> None:
        position = self.position
        self.method.before_step(position.step, share)
        loss, stats = self.method.loss(self.method.batch(position.step))
        loss.backward()
        value, stats, finite = self._read(loss, stats)
        if not math.isfinite(value):
            raise UserError(
                f"{self.run.folder}: the loss is {value} at step {position.step}; the last checkpoint stays; "
                "train again with a lower learning rate (--set), or --precision float32"
            )
        if finite:
            factor = getattr(self.method, "learning_rate_factor", learning_rate_factor)
            self.optimiser.step(factor(share, position.step))
            self.skipped_in_a_row = 0
        else:
            self.optimiser.zero_grad()
            position.skipped += 1
            self.skipped_in_a_row += 1
            if self.skipped_in_a_row >= _MOST_SKIPPED_IN_A_ROW:
                raise UserError(
                    f"{self.run.folder}: {self.skipped_in_a_row} steps in a row had gradients that are not "
                    f"finite (step {position.step}); the last checkpoint is kept; train again with "
                    "--precision float32"
                )
        position.step += 1
        position.rays += int(stats.get("rays", 0))
        position.samples += int(stats.get("samples", 0))
        position.window_steps += 1
        for name, number in {"loss": value, **stats}.items():
            position.window[name] = position.window.get(name, 0.0) + number

    def _read(
        self, loss: Tensor, stats: Mapping[str, float | Tensor]
    ) -> tuple[float, dict[str, float], bool]:
        """The loss and the statistics as numbers, and whether all gradients are finite: one wait for the device, not one each."""
        # a sum is not finite when an entry is not. Tables are not read for it, that would cost as much as their update: what
        # reaches a table has come through the heads, and shows in their gradients
        groups = [group for group in self.groups if not group.sparse] or self.groups
        sums = [p.grad.sum() for group in groups for p in group.parameters if p.grad is not None]
        told = {name: number for name, number in stats.items() if isinstance(number, Tensor)}
        waiting = [loss.detach(), *told.values(), *sums]
        value, *read = torch.stack([number.detach().float() for number in waiting]).tolist()
        numbers = {name: float(number) for name, number in stats.items() if name not in told}
        numbers |= dict(zip(told, read, strict=False))
        return value, numbers, all(math.isfinite(number) for number in read[len(told) :])

    def _report(self, share: float) -> None:
        """Shows the step, and logs a line at every `log_every`-th and at the last one."""
        position = self.position
        count = max(1, position.window_steps)
        seconds = max(1e-9, position.elapsed - position.window_elapsed)
        means = {name: total / count for name, total in position.window.items()}
        # the first step is off the clock, so the first window has no honest rate
        timed = position.window_elapsed > 0
        rates = {
            name: position.window.get(name, 0.0) / seconds if timed else None for name in ("rays", "samples")
        }
        self.display.update(
            step=position.step,
            share=share,
            seconds_left=self.budget.seconds_left(position.step, position.elapsed),
            psnr=means.get("psnr"),
            rays_per_second=rates["rays"],
            samples_per_second=rates["samples"],
        )
        if position.window_steps < self.log_every and not (share >= 1 and position.window_steps):
            return
        line = {
            "step": position.step,
            "elapsed": round(position.elapsed, 3),
            **{name: _finite(mean) for name, mean in means.items()},
            "rays_per_second": rates["rays"],
            "samples_per_second": rates["samples"],
            "total_rays": position.rays,
            "total_samples": position.samples,
            "skipped": position.skipped,
        }
        try:
            self._log.write(json.dumps(line, allow_nan=False) + "\n")
            self._log.flush()
        except OSError as error:
            raise UserError(
                f"{self.run.metrics_path}: cannot be written ({error.strerror}); the last checkpoint is "
                "kept: free some space, then resume"
            ) from error
        position.window, position.window_steps = {}, 0
        position.window_elapsed = position.elapsed

    def _save(self) -> None:
        tensors = {METHOD_PREFIX + name: tensor for name, tensor in self.method.state().items()}
        tensors |= {_OPTIMISER_PREFIX + name: tensor for name, tensor in self.optimiser.state().items()}
        save_checkpoint(self.run.checkpoint_path, tensors, {"position": asdict(self.position)})

    def _restore(self) -> None:
        tensors, record = load_checkpoint(self.run.checkpoint_path)
        try:
            self.method.load_state(select(tensors, METHOD_PREFIX))
            self.optimiser.load_state(select(tensors, _OPTIMISER_PREFIX))
            self.position = _Position(**record["position"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{self.run.checkpoint_path}: does not fit the settings in config.json ({error})"
            ) from error

    def _outcome(self, signal: int | None) -> Outcome:
        position = self.position
        return Outcome(position.step, position.elapsed, self.compile_seconds, position.skipped, signal)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
