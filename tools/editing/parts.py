"""What a run of mesh primitives consists of: itself, or its blocks; and which trained primitives each brings to the scene."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from fieldstone.core.errors import UserError

from ..training.checkpoint import load_checkpoint, select
from ..training.dnmp import DnmpMethod
from ..training.loop import METHOD_PREFIX
from ..training.run import Run

__all__ = ["Trained", "load_part", "part_runs", "trained_places"]


class Trained(NamedTuple):
    """n primitives of a run, without their looks."""

    centres: np.ndarray
    """(n, 3) middles of their voxels, source frame."""
    half_side: np.ndarray
    """(n,) of the voxels, source units."""
    there: np.ndarray
    """(n,) bool: which belong to the scene. A block leaves out what its neighbours own."""


def part_runs(run: Run) -> list[Run]:
    """The runs that make up `run`. UserError if it is not one of method dnmp."""
    if run.kind != "scene" or run.config["method"] != "dnmp":
        raise UserError(
            f"{run.folder}: a run of method {run.config['method']}; only scenes of method dnmp are made of primitives"
        )
    if "blocks" not in run.config:
        return [run]
    folders = [run.folder / Path(str(name)) for name in run.config["blocks"]]
    missing = [str(folder) for folder in folders if not (folder / "checkpoint.safetensors").is_file()]
    if missing:
        raise UserError(
            f"{run.folder}: {len(missing)} of {len(folders)} blocks are not trained ({missing[0]}); "
            f"go on with: train-scene --out {run.folder} --resume"
        )
    return [Run.open(folder) for folder in folders]


def trained_places(part: Run) -> Trained:
    """Reads where the primitives are and no more."""
    method = part.blank_method()
    prefix = f"{METHOD_PREFIX}geometry."
    stored = select(load_checkpoint(part.checkpoint_path, prefix)[0], prefix)
    alive = stored["alive"]
    return _trained(method, stored["centres"][alive], stored["reach"][alive])


def load_part(part: Run) -> tuple[DnmpMethod, Trained]:
    """The whole of it."""
    method = part.method()
    alive = method.geometry.alive
    return method, _trained(method, method.geometry.centres[alive], method.geometry.reach[alive])


def _trained(method: DnmpMethod, centres, reach) -> Trained:
    places = method.frame.inverse().apply(centres.double().numpy())
    there = np.ones(len(places), bool)
    if method.capture.block is not None:
        there = method.capture.block.owned(places)
    return Trained(places, reach.double().numpy() / 3**0.5, there)
