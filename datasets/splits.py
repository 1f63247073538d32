"""Which frames are held out."""

from __future__ import annotations

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["HOLDOUT", "divided"]

HOLDOUT = 8
"""Every eighth frame is a test frame: the rule of LLFF and mip-NeRF 360."""


def divided(
    count: int,
    own: dict[str, list[int]] | None,
    holdout: int | None,
    notes: list[str],
) -> dict[str, np.ndarray]:
    """Frame indices of "train", "test" and whatever else the data set names.

    `own` is the data set's own division and is kept as it is when `holdout` is None. Otherwise frame i, in
    name order, is a test frame if i % holdout == 0 (`holdout` None means 8); 0 holds nothing out. An
    explicit `holdout` divides all frames anew, whatever the data set says. With fewer than four frames none
    is held out unless asked for.
    """
    if holdout is not None and (holdout < 0 or int(holdout) != holdout or holdout == 1):
        raise UserError(
            f"holdout {holdout}: give 0 to hold nothing out, or 2 or more to hold out every such frame"
        )
    if holdout is None and own is not None:
        splits = {name: np.array(index, np.int64) for name, index in own.items()}
        unused = count - len(np.unique(np.concatenate(list(splits.values()))))
        if unused:
            notes.append(f"{unused} frames are in no split of the data set and stay unused")
        if "test" not in splits:
            splits["test"] = splits.get("val", np.zeros(0, np.int64))
            notes.append(
                "no test split: the validation split stands in for it" if "val" in splits else "no test split"
            )
        return splits
    if holdout is None and count < 4:
        notes.append(f"nothing is held out of only {count} frames")
        holdout = 0
    every = HOLDOUT if holdout is None else int(holdout)
    frames = np.arange(count, dtype=np.int64)
    if every == 0:
        return {"train": frames, "test": frames[:0]}
    held = frames % every == 0
    return {"train": frames[~held], "test": frames[held]}
