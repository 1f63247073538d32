"""A run of mesh primitives edited into a new one, which renders and exports as any other. The run itself is never written to."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
import torch

from fieldstone.core.errors import UserError

from ..blocks.scene import scene_of
from ..evaluation import thumbnail_cameras
from ..training.capture_record import moved_record
from ..training.checkpoint import load_checkpoint, save_checkpoint
from ..training.loop import METHOD_PREFIX
from ..training.run import Run
from .arrangement import Arrangement
from .edit_list import arrangement_of, edits_path, read_edits, write_edits
from .edits import Stage, check_edit, do, work_out
from .labels import primitive_classes
from .parts import load_part, part_runs
from .placed import linear_from_srgb
from .selection import select

__all__ = ["edit_scene", "selected"]

COLOUR_VIEWS, COLOUR_PIXELS = 6, 320
"""Training views in which the colour of a selection is looked up, and their longest side."""


def edit_scene(run: Run, out: str | os.PathLike, edits: list[dict]) -> Run:
    """Does `edits` (edits.py), one after another, and writes the result as the run folder `out`.

    Selections see what the edits before left. The new run keeps what rendering needs and no optimiser: it is not trained on. UserError
    if one of the edits cannot be done; then nothing is written.
    """
    if not edits:
        raise UserError("edit-scene: no edit; say what to do")
    for edit in edits:
        check_edit(edit)
    Run.check_free(out)
    stage, now = _stage(run)
    done = []
    for edit in edits:
        worked = work_out(edit, stage, now)
        now = do(worked, now)
        if not len(now):
            raise UserError(f"edit {edit['do']}: nothing would be left of the scene")
        done.append(worked)
    before = read_edits(edits_path(run)) if edits_path(run).is_file() else []
    return _write(run, Path(out), before + done)


def selected(run: Run, selection: dict) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (k,) and middles (k, 3) of the primitives that `selection` finds in a run, source frame. UserError if there is none."""
    stage, now = _stage(run)
    scene = stage.selectable(now)
    rows = select(selection, scene)
    return scene.ids[rows], scene.centres[rows]


def _stage(run: Run) -> tuple[Stage, Arrangement]:
    parts = part_runs(run)
    middles, scale, part, voxels, there = [], [], [], [], []
    for number, each in enumerate(parts):
        method, trained = load_part(each)
        vertices = method.scene().primitives.vertices.view(-1, 42, 3).double().mean(1)
        middles.append(method.frame.inverse().apply(vertices.numpy()))
        part.append(np.full(len(vertices), number))
        voxels.append((trained.centres, trained.half_side))
        there.append(trained.there)
    there = np.concatenate(there)
    centres, half_side = (np.concatenate(columns) for columns in zip(*voxels))
    finest = half_side[there].min() if there.any() else 1.0
    scale = np.maximum(np.round(np.log2(half_side / finest)).astype(np.int64), 0)

    @functools.cache
    def classes():
        numbers = np.full(len(there), -1)
        numbers[there], names = primitive_classes(run.capture(), centres[there], half_side[there])
        return numbers, names

    stage = Stage(
        np.concatenate(middles),
        scale,
        np.concatenate(part),
        classes,
        lambda now, rows: _rendered_colour(run, now, rows, np.concatenate(middles)),
    )
    return stage, arrangement_of(run, there)


def _rendered_colour(run: Run, now: Arrangement, rows: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """Mean linear RGB of the pixels in which rows of `now` weigh most, over the training views that show most of them."""
    scene, capture = scene_of(run, now), run.cameras_only
    points = torch.from_numpy(now.middles(middles)[rows])
    size = []
    for index in capture.splits["train"]:
        camera = capture.cameras[int(index)]
        pixels, z = camera.project(points, torch.zeros(1, dtype=torch.int64))
        inside = (z > 0.1) & (pixels >= 0).all(1) & (pixels < torch.tensor(camera.size(0))).all(1)
        size.append(float((inside / z.clamp_min(0.1).square()).sum()))
    total, weight = np.zeros(3), 0
    for number in np.argsort(size)[::-1][:COLOUR_VIEWS]:
        if size[number] == 0:
            break
        index = int(capture.splits["train"][number])
        view = scene.render_view(thumbnail_cameras(capture.cameras, index, COLOUR_PIXELS), 0)
        ours = torch.isin(view["primitive"], torch.from_numpy(now.ids[rows]))
        total += linear_from_srgb(view["colour"][ours]).double().sum(0).numpy()
        weight += int(ours.sum())
    if not weight:
        raise UserError(
            "edit recolour: no training view shows the selection, so its colour is not known; select what is seen"
        )
    return total / weight


def _write(source: Run, folder: Path, edits: list[dict]) -> Run:
    """Checkpoints come last: without one the folder is no trained run, and says so."""
    run = Run.create(folder, _config(source, folder), source.record())
    write_edits(run, source, edits)
    for part in part_runs(source):
        inside = folder / os.path.relpath(part.folder, source.folder)
        copy = run if part is source else Run.create(inside, _config(part, inside), part.record())
        tensors, record = load_checkpoint(part.checkpoint_path, METHOD_PREFIX)
        save_checkpoint(copy.checkpoint_path, tensors, record)
    return run


def _config(source: Run, folder: Path) -> dict:
    kept = {key: value for key, value in source.config.items() if key != "format"}
    return kept | {"edited": True, "data": moved_record(source.config["data"], source.folder, folder)}
