"""A moving scene with exact ground truth at every moment, written in the layout of D-NeRF.

Toys on the stand of the bundled scene: a marble ball runs round the rim, a block turns and lifts, a ring bobs over it, a pear
rocks. Motion repeats nothing within [0, 1] and has no moment in common with another, so a network that cannot tell times apart
shows it. Every moment is a `SyntheticScene`, with its pictures, depths, normals and true surface.

With `daylight` the light changes as well, from noon over a red dusk to a blue night: what no motion can explain.
"""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_write_json
from fieldstone.core.similarity import Similarity

from ..writers import write_blender
from .materials import linear_to_srgb, srgb_to_linear
from .scene import SyntheticScene
from .shapes import Body
from .still_life import still_life

__all__ = ["moving_scene", "write_moving_capture"]

_BALL, _BLOCK, _RING, _PEAR, _STAND = 0, 1, 2, 5, -1
"""Places of the bodies that take part in the still life."""

_TO_SOURCE = Similarity(
    1.3,
    np.array([[math.cos(0.4), -math.sin(0.4), 0.0], [math.sin(0.4), math.cos(0.4), 0.0], [0.0, 0.0, 1.0]]),
    np.array([0.05, -0.03, 0.1]),
)
"""Into the box of +-1.5 that NeRF-synthetic and D-NeRF stand for."""


_HOURS = (0.0, 0.35, 0.6, 1.0)
_LIGHT = ((1.0, 1.0, 1.0), (1.0, 0.8, 0.55), (0.75, 0.38, 0.2), (0.12, 0.17, 0.34))
"""Linear RGB of the light at those times, straight lines between."""


def moving_scene(
    time: float,  # in [0, 1]
    *,
    daylight: bool = False,  # the light goes from noon to night, else it stays
    hour: float | None = None,  # of the light, in [0, 1]; None: time
) -> SyntheticScene:
    """The scene at a moment; `UserError` for another time."""
    if not (math.isfinite(time) and 0 <= time <= 1):
        raise UserError(f"moving scene: time {time} must lie in 0 to 1")
    bodies = still_life()
    turn = 2 * math.pi * time
    ball = _placed(
        bodies[_BALL],
        (-0.58 * math.cos(0.8 * turn), 0.58 * math.sin(0.8 * turn), None),
        (3.1 * time, 2 * time, 0),
    )
    lift = 0.22 * math.sin(0.5 * turn) ** 2
    block = _placed(
        bodies[_BLOCK], (0.0, 0.0, bodies[_BLOCK].centre[2] + lift), (0.0, 0.0, 0.45 + 0.6 * turn)
    )
    bob = bodies[_RING].centre[2] + lift + 0.12 * (1 - math.cos(1.5 * turn))
    ring = _placed(bodies[_RING], (0.0, 0.0, bob), (0.7 * math.sin(turn), 0.5 * math.sin(0.7 * turn), 0.0))
    pear = _placed(
        bodies[_PEAR],
        (0.6 * math.cos(0.8 * turn + 0.6), -0.6 * math.sin(0.8 * turn + 0.6), None),
        (0.25 * math.sin(1.7 * turn), 0.25 * math.cos(1.3 * turn), 0.6 + turn),
    )
    shown = (ball, block, ring, pear, bodies[_STAND])
    if daylight:
        light = [
            float(np.interp(time if hour is None else hour, _HOURS, channel))
            for channel in zip(*_LIGHT, strict=True)
        ]
        shown = tuple(_lit(body, light) for body in shown)
    return SyntheticScene(shown, _TO_SOURCE)


def write_moving_capture(
    folder: str | os.PathLike,
    *,
    size: int = 128,
    train: int = 60,
    test: int = 12,
    samples: int = 2,
    share: float = 1.0,
    daylight: bool = False,
) -> None:
    """Renders `train` and `test` pictures of size x size pixels, each from its own camera at its own time, as D-NeRF does.

    Training times are evenly spread over [0, 1], ends included; test times lie between them. `share` is the part of the motion
    that is shown in that time; daylight always goes to its end. ground_truth.json says what was made;
    `moving_scene(share * time, daylight=daylight, hour=time)` is the truth itself.
    """
    if train < 2 or test < 1:
        raise UserError(f"moving capture: {train} training and {test} test pictures; at least 2 and 1")
    if not 0 < share <= 1:
        raise UserError(f"moving capture: share {share} of the motion; must be above 0 and at most 1")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    every = {"train": np.linspace(0, 1, train), "test": (np.arange(test) + 0.5) / test}
    for split, times in every.items():
        cameras = moving_scene(0.0).cameras(split, count=len(times), size=size)
        # cameras wind down from above: shuffled, so that height does not stand for time
        order = np.random.default_rng(3).permutation(len(times))
        cameras = cameras[order]
        pictures = []
        for i, time in enumerate(times):
            scene = moving_scene(share * float(time), daylight=daylight, hour=float(time))
            view = scene.render(cameras, i, samples=samples, geometry=False)
            pixels = np.concatenate([view["colour"], view["alpha"][..., None]], -1)
            pictures.append(np.rint(pixels * 255).astype(np.uint8))
        write_blender(folder, pictures, cameras, {split: range(len(times))}, times=times)
    atomic_write_json(
        folder / "ground_truth.json",
        {
            "made_by": "fieldstone moving scene",
            "share": share,
            "daylight": daylight,
            "unit": "metre",
            "to_source": _TO_SOURCE.to_json(),
        },
    )


def _placed(
    body: Body, centre: tuple[float, float, float | None], rotation: tuple[float, float, float]
) -> Body:
    height = body.centre[2] if centre[2] is None else centre[2]
    return dataclasses.replace(body, centre=(centre[0], centre[1], height), rotation=rotation)


def _lit(body: Body, light: list[float]) -> Body:
    """The body under coloured light: its colours times the light's, in linear RGB."""
    colours = []
    for colour in body.material.colours:
        linear = srgb_to_linear(np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]))
        shown = np.rint(linear_to_srgb(linear * np.array(light)) * 255).astype(int)
        colours.append("#" + "".join(f"{value:02x}" for value in shown))
    return dataclasses.replace(body, material=dataclasses.replace(body.material, colours=tuple(colours)))
