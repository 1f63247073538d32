"""edits.json: what was done to an edited run's scene, in order; plain data that can be read, changed and replayed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_write_json

from ..training.run import Run
from .arrangement import Arrangement
from .edits import check_edit, do

__all__ = ["arrangement_of", "edits_path", "read_edits", "write_edits"]

FORMAT = 1


def edits_path(run: Run) -> Path:
    return run.folder / "edits.json"


def read_edits(path: str | os.PathLike) -> list[dict]:
    """The edits of a file: edits.json of a run, or a list written by hand. UserError for what is none."""
    path = Path(path)
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a list of edits ({error})") from error
    if isinstance(value, dict):
        if value.get("format", FORMAT) != FORMAT:
            raise UserError(
                f"{path}: edits of format {value['format']!r}; this version of Fieldstone reads {FORMAT}"
            )
        value = value.get("edits")
    if not isinstance(value, list) or not value:
        raise UserError(f'{path}: wanted a list of edits, or {{"edits": [...]}}')
    for number, edit in enumerate(value):
        try:
            check_edit(edit)
        except UserError as error:
            raise UserError(f"{path}: edit {number}: {error}") from error
    return value


def write_edits(run: Run, source: Run, edits: list[dict]) -> None:
    """`source`: the run that was edited, recorded relative to `run`."""
    try:
        place = Path(os.path.relpath(source.folder.resolve(), run.folder.resolve())).as_posix()
    except ValueError:  # Windows: there is no relative path between two drives
        place = str(source.folder.resolve())
    atomic_write_json(edits_path(run), {"format": FORMAT, "source": place, "edits": edits})


def arrangement_of(run: Run, there: np.ndarray) -> Arrangement:
    """The trained primitives that are `there` (n,) after the run's edits; as trained if it has none."""
    now = Arrangement.of(there)
    path = edits_path(run)
    if not path.is_file():
        return now
    for number, edit in enumerate(read_edits(path)):
        try:
            now = do(edit, now)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(
                f"{path}: edit {number} does not fit the run ({error!r}); replay the list on it with edit-scene --edits"
            ) from error
    return now
