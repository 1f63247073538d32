"""A folder of registered meshes and raw scans as one set in one topology."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ....fields.articulated.model_data import ModelData
from .learn import Registered
from .reading import read_items
from .registration import register

__all__ = ["registered_folder"]


def registered_folder(
    folder: str | Path,
    data: ModelData,  # the starting model
    *,
    unit: str = "m",
    points: int = 4000,
    written: str | Path | None = None,
    rng: np.random.Generator,
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[Registered, list[str]]:
    """The meshes, and what there is to say about how they came about.

    Raw scans are registered one by one (`registration.register`); with `written` their meshes are left in that folder, where a
    second call finds them registered. Raises `UserError` as `read_items` does, and for a scan that cannot be registered.
    """
    items = read_items(folder, data, unit=unit)
    subjects = sorted({item.subject for item in items})
    if len(subjects) < 2:
        raise UserError(
            f"{folder}: expected meshes of at least 2 subjects, found 1 ({subjects[0]}); use a folder for each, or names like "
            "SUBJECT_POSE.ply"
        )
    raw = sum(not item.registered for item in items)
    mirrored = sum(item.mirrored for item in items)
    progress(f"{len(items)} files of {len(subjects)} subjects, {raw} of them raw scans")
    notes = [f"{mirrored} files of the other hand were mirrored"] if mirrored else []
    vertices, distances = [], []
    for item in items:
        if item.registered:
            vertices.append(item.vertices)
            continue
        try:
            found = register(data, item.scan(), count=points, rng=rng)
        except UserError as error:
            raise UserError(f"{Path(folder) / item.name}: {error}") from error
        vertices.append(found.vertices)
        distances.append(float(np.mean(found.distance)) if len(found.distance) else np.nan)
        progress(f"{item.name}: registered, {1e3 * distances[-1]:.3f} mm from the surface")
        if not distances[-1] < 0.004:
            notes.append(
                f"{item.name}: registered badly ({1e3 * distances[-1]:.2f} mm); look at it, or leave it out"
            )
        if written is not None:
            _write(Path(written) / f"{item.name.replace('/', '_')}.ply", found.vertices, data.faces)
    if distances:
        notes.append(f"{raw} raw scans registered, mean distance {1e3 * float(np.nanmean(distances)):.3f} mm")
    number = {subject: index for index, subject in enumerate(subjects)}
    return (
        Registered(
            np.array(vertices),
            np.array([number[item.subject] for item in items]),
            tuple(item.name for item in items),
        ),
        notes,
    )


def _write(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    import trimesh

    from ...mesh import write_mesh

    path.parent.mkdir(parents=True, exist_ok=True)
    write_mesh(trimesh.Trimesh(vertices, faces, process=False), path)
