"""How long a run trains."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fieldstone.core.errors import UserError

__all__ = ["Budget"]


@dataclass(frozen=True)
class Budget:
    """Minutes of training, or steps, for a whole run rather than one sitting; with both, what ends first.

    The clock runs over steps, checkpoints and previews. It leaves out the first step and the first preview of
    each sitting, because these may compile kernels, and whatever happens before and after training.
    """

    minutes: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.minutes is None and self.steps is None:
            raise UserError("no budget: give --minutes or --steps")
        if self.minutes is not None and not (math.isfinite(self.minutes) and self.minutes > 0):
            raise UserError(f"--minutes {self.minutes}: must be a positive number")
        if self.steps is not None and self.steps <= 0:
            raise UserError(f"--steps {self.steps}: must be a positive whole number")

    def progress(self, step: int, elapsed: float) -> float:
        """The share in [0, 1] that is used after `step` steps and `elapsed` seconds."""
        by_time = elapsed / (60 * self.minutes) if self.minutes is not None else 0.0
        by_step = step / self.steps if self.steps is not None else 0.0
        return min(1.0, max(by_time, by_step))

    def seconds_left(self, step: int, elapsed: float) -> float | None:
        """An estimate from the pace so far; None in the first second, which shows none yet."""
        estimates = []
        if self.minutes is not None:
            estimates.append(60 * self.minutes - elapsed)
        if self.steps is not None and step > 0 and elapsed > 1:
            estimates.append((self.steps - step) * elapsed / step)
        return max(0.0, min(estimates)) if estimates else None

    def describe(self) -> str:
        """ "5 minutes", "2000 steps", or both."""
        parts = [f"{self.minutes:g} minutes"] if self.minutes is not None else []
        parts += [f"{self.steps} steps"] if self.steps is not None else []
        return " or ".join(parts)

    def to_json(self) -> dict:
        return {"minutes": self.minutes, "steps": self.steps}
