"""How a scene is divided in blocks, and what of a capture one block is trained on."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ...datasets.block import Block

__all__ = ["MARGIN", "plan_blocks", "read_blocks", "within"]

MARGIN = 0.2
"""Of the block's size, where none is given."""
SEEN = 0.05
"""A view trains a block if this share of what it sees, by area in the picture, belongs to it."""
SPARSE = 0.25
"""A cell with fewer cameras than this share of the mean is no block of its own; the nearest one takes it over."""
FEW = 3
"""A planned block that fewer training views see goes to its neighbours."""
LOOKED_AT = 40_000
"""Points that decide which views see a block."""
MOST = 10_000


def plan_blocks(capture, size: float, margin: float | None = None) -> list[Block]:
    """Blocks of at most `size` along the ground, where training cameras are: the cells of a grid over their positions.

    The up axis is the axis of the source frame that the cameras' own agrees with most; along it a block holds everything. UserError for a
    capture without points, or a size that is none.
    """
    if not (math.isfinite(size) and size > 0):
        raise UserError(f"block size {size}: give a length above 0")
    if margin is None:
        margin = MARGIN * size
    if capture.points is None or not len(capture.points):
        raise UserError(f"{capture.folder}: no point cloud; blocks are cut from points")
    cameras = capture.cameras[np.asarray(capture.splits["train"])]
    places = cameras.positions.double().numpy()
    down = cameras.camera_to_world[:, :3, 1].double().numpy().mean(0)
    ground = [axis for axis in range(3) if axis != int(np.abs(down).argmax())]
    low, high = places.min(0), places.max(0)
    counts = np.maximum(np.ceil((high - low) / size - 1e-9), 1).astype(int)
    if counts[ground].prod(dtype=float) > MOST:
        raise UserError(
            f"blocks of {size:g} over cameras that stand {np.round(high - low, 1).tolist()} apart: more than {MOST}; make them larger"
        )
    side = (high - low) / counts
    cell = np.floor((places - low) / np.maximum(side, 1e-12)).astype(int).clip(0, counts - 1)[:, ground]
    cells, first, number = np.unique(cell, axis=0, return_index=True, return_counts=True)
    kept = number >= SPARSE * number.mean()
    cells = cells[kept][np.argsort(first[kept])]  # in the order in which the cameras come by
    points = np.asarray(capture.points)
    boxes = np.empty((len(cells), 2, 3))
    boxes[:, 0], boxes[:, 1] = points.min(0), points.max(0)
    boxes[:, 0, ground] = low[ground] + cells * side[ground]
    boxes[:, 1, ground] = low[ground] + (cells + 1) * side[ground]
    while True:
        blocks = [Block(index, boxes, float(margin)) for index in range(len(boxes))]
        seen = np.array([len(_seeing(capture, block)["train"]) >= min(FEW, len(places)) for block in blocks])
        if (
            seen.all() or not seen.any()
        ):  # cameras look ahead: few see anything where the first of them stands
            return blocks
        boxes = boxes[seen]


def read_blocks(path: str | os.PathLike) -> list[Block]:
    """The blocks of a JSON file: {"blocks": [{"low": [x, y, z], "high": [x, y, z]}, ...], "margin": 4}; source frame and unit."""
    try:
        value = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error
    try:
        boxes = [[box["low"], box["high"]] for box in value["blocks"]]
        whole = {"boxes": boxes, "margin": value["margin"]}
        return [Block.from_json(whole | {"index": index}) for index in range(max(len(boxes), 1))]
    except (KeyError, TypeError) as error:
        raise UserError(
            f'{path}: wanted {{"blocks": [{{"low": [x, y, z], "high": [x, y, z]}}, ...], "margin": 4}} ({error!r})'
        ) from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def within(capture, block: Block):
    """The capture as `block` is trained on it: the views that see it. Points stay: those outside are what it is seen against.

    UserError if no training view sees it.
    """
    splits = _seeing(capture, block)
    if not len(splits["train"]):
        raise UserError(
            f"{capture.folder}: block {block.index} from {np.round(block.boxes[block.index, 0], 2).tolist()} to "
            f"{np.round(block.boxes[block.index, 1], 2).tolist()}: no training view sees it; leave it out"
        )
    return replace(capture, splits=splits, block=block)


def _seeing(capture, block: Block) -> dict[str, np.ndarray]:
    """The splits, with the views that see the block."""
    points = np.asarray(capture.points, np.float64)
    points = points[:: max(1, len(points) // LOOKED_AT)]
    owned = block.owned(points)
    splits = {}
    for name, index in capture.splits.items():
        index = np.asarray(index)
        kept = [_share(capture.cameras[int(i)], points, owned) >= SEEN for i in index]
        splits[name] = index[np.array(kept, bool)]
    return splits


def _share(camera, points: np.ndarray, owned: np.ndarray) -> float:
    """Of the points in the picture that are owned, each by the area it stands for, which falls with the square of its depth."""
    import torch

    width, height = camera.size(0)
    pixels, z = camera.project(torch.from_numpy(points), torch.zeros(1, dtype=torch.int64))
    pixels, z = pixels.nan_to_num(-1).numpy(), z.numpy()
    inside = (z > 0.5) & (pixels >= 0).all(1) & (pixels < [width, height]).all(1)
    area = np.where(inside, 1 / np.maximum(z, 0.5) ** 2, 0)
    total = area.sum()
    return float(area[owned].sum() / total) if total > 0 else 0.0
