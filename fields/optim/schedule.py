"""How the learning rate moves over a run."""

from __future__ import annotations

import math

__all__ = ["learning_rate_factor"]


def learning_rate_factor(
    progress: float,  # share of the budget that is used, in [0, 1]
    step: int,
    warmup_steps: int = 30,
    hold: float = 0.25,
    final: float = 0.03,
) -> float:
    """Factor on every base rate: a linear warm-up, full rate until `hold` of the budget, then exponential decay to `final`.

    Tied to progress rather than steps, so a budget in minutes ends at the low rate whatever the machine's speed; that
    the last steps run at a low rate is worth more than a decibel on short runs.
    """
    progress = min(max(progress, 0.0), 1.0)
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps > 0 else 1.0
    decay = 1.0 if progress <= hold else math.exp(math.log(final) * (progress - hold) / (1 - hold))
    return warmup * decay
