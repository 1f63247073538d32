"""A folder of plain photos becomes a COLMAP project: structure from motion, made once and kept.

The project holds database.db, sparse/0/*.bin, report.json (what was placed and why other photos were not) and
project.json, written last, which says where the photos are ("images", relative to the project) and from which
photos the project was made. The photos themselves stay where they are; `images` is a link to them unless they lie
in a folder above the project, where the COLMAP reader looks anyway.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_write_json
from fieldstone.core.lazy import require

from .photo_features import PhotoFeatures, all_features
from .photo_mapping import (
    best_model,
    colour_points,
    map_photos,
    placed,
    refine_principal_point,
    turn_upright,
    verify,
    write_database,
)
from .photo_pairs import likely_pairs, match, unit_descriptors
from .photo_report import missing_reasons, shared_features, summary_line
from .readers.image_folder import image_files

__all__ = ["DEFAULT_WORKSPACE", "Effort", "place_photos"]

DEFAULT_WORKSPACE = "fieldstone_sfm"
"""Folder beside the photos that is used when no workspace is given."""
ENOUGH_PLACED = 0.8
"""Share of the photos; below it, more effort is made."""

_METHOD = 1  # raised when a change of ours makes older projects worth making again
_FEWEST_MATCHES = 15  # COLMAP's min_num_matches: pairs with fewer are not looked at


@dataclass(frozen=True)
class Effort:
    """How closely photos are looked at."""

    max_side: int
    """Photos are reduced to this longer side, pixels."""
    features: int
    partners: int
    """Other photos that each one is matched with."""


QUICK = Effort(max_side=1200, features=2048, partners=12)
THOROUGH = Effort(max_side=2000, features=6144, partners=24)


def place_photos(
    folder: str | Path,
    workspace: str | Path | None = None,
    *,
    report: Callable[[str], None] = print,
    threads: int | None = None,
    seed: int = 0,
) -> Path:
    """Finds camera poses and lenses of the photos in `folder`; returns the COLMAP project's folder.

    Photos are matched (see `photo_pairs`) and placed by COLMAP's incremental mapper (Schoenberger and Frahm
    2016). If that places fewer than 80 % of them, all is done again with more features and pairs, then with
    the global mapper (Pan et al. 2024), of which two the larger result is kept; photos still missing are tried again
    with half the matches asked for. The world is turned so that +z is up (`turn_upright`); its unit stays what
    the mapper chose.

    `workspace` None: `fieldstone_sfm` inside `folder`. A project made from the same photos (names, sizes and
    modification times) with the same seed is used again. An interrupted run leaves an earlier project as it
    was. `threads` None: all cores. Results with several threads may differ in the last digits.

    UserError for fewer than two readable photos, if none can be placed, if the workspace cannot be written, and
    without pycolmap.
    """
    folder = Path(folder)
    workspace = Path(workspace) if workspace is not None else folder / DEFAULT_WORKSPACE
    files = image_files(folder)
    if len(files) < 2:
        raise UserError(f"{folder}: {len(files)} photos; at least 2 of one scene are needed")
    fingerprint = _fingerprint(files, seed)
    known = _finished(workspace, fingerprint)
    if known is not None:
        report(f"{workspace}: {summary_line(known)} (earlier run, same photos)")
        return workspace
    require("pycolmap", extra="sfm", purpose="placing photos")
    with _building(workspace) as building:
        began = time.perf_counter()
        record = _place(folder, files, building, report, threads or _cores(), seed)
        record["seconds"] = round(time.perf_counter() - began, 1)
        atomic_write_json(building / "report.json", record)
        images = _relative(folder, workspace)
        _publish(building, workspace, folder, {"images": images, "fingerprint": fingerprint})
    report(summary_line(record))
    return workspace


def _place(
    folder: Path, files: list[Path], building: Path, report: Callable[[str], None], threads: int, seed: int
) -> dict:
    """Writes database.db and sparse/0 into `building`; returns the report."""
    database, scratch = building / "database.db", building / "mapper"
    best, models, mapper, photos = None, [], "incremental", []
    with _quiet():
        for effort in (QUICK, THOROUGH):
            photos, damaged = _matched(files, database, effort, report, threads, seed)
            if len(photos) < 2:
                raise UserError(f"{folder}: {len(photos)} readable photos of {len(files)}{_first(damaged)}")
            wanted = ENOUGH_PLACED * len(photos)
            found = map_photos(database, scratch, len(photos), threads=threads, seed=seed)
            # ids in a reconstruction are the database's, so only the last database's count
            best, models = best_model(found), found
            if placed(best) >= wanted:
                break
            report(f"{placed(best)} of {len(photos)} photos placed; trying harder")
        if placed(best) < wanted:
            found = map_photos(database, scratch, len(photos), threads=threads, seed=seed, mapper="global")
            if placed(best_model(found)) > placed(best):
                best, models, mapper = best_model(found), found, "global"
        if best is not None and placed(best) < len(photos):
            again = best_model(
                map_photos(database, scratch, len(photos), threads=threads, seed=seed, start=best)
            )
            best = again if placed(again) > placed(best) else best
        best = best and refine_principal_point(best, threads)
    names = [photo.name for photo in photos]
    shared = shared_features(database, names)
    if best is None:
        reasons = missing_reasons(photos, set(), shared, {}) | damaged
        raise UserError(
            f"{folder}: none of the {len(files)} photos could be placed{_first(reasons)}; "
            "take more photos, moving a step between them, with at least two thirds in common"
        )
    here = {best.image(i).name for i in best.reg_image_ids()}
    elsewhere: dict[str, int] = {}
    for model in models:
        for i in model.reg_image_ids():
            if (name := model.image(i).name) not in here:
                elsewhere[name] = max(elsewhere.get(name, 0), placed(model))
    by_name = {photo.name: photo for photo in photos}
    rotation = _upright(best, by_name)
    colour_points(best, by_name)
    sparse = building / "sparse" / "0"
    sparse.mkdir(parents=True)
    best.write_binary(sparse)
    shutil.rmtree(scratch)
    best.update_point_3d_errors()
    errors = [point.error for point in best.points3D.values()]
    import pycolmap

    return {
        "photos": len(files),
        "placed": sorted(here),
        "not_placed": dict(sorted((damaged | missing_reasons(photos, here, shared, elsewhere)).items())),
        "median_reprojection_error": round(float(np.median(errors)), 3),
        "points": len(errors),
        "cameras": [
            {"model": camera.model_name, "width": camera.width, "height": camera.height}
            | {"params": [float(value) for value in camera.params]}
            for camera in best.cameras.values()
        ],
        "separate_parts": [placed(model) for model in models],
        "turned_by": rotation.tolist(),
        "mapper": mapper,
        "features": effort.features,
        "seed": seed,
        "pycolmap": pycolmap.__version__,
    }


def _matched(
    files: list[Path],
    database: Path,
    effort: Effort,
    report: Callable[[str], None],
    threads: int,
    seed: int,
) -> tuple[list[PhotoFeatures], dict[str, str]]:
    """Makes the verified database; the readable photos, and name -> reason for the others."""
    import torch

    report(f"looking for features in {len(files)} photos")
    photos, damaged = all_features(files, effort.max_side, effort.features, threads)
    if len(photos) < 2:
        return photos, damaged
    descriptors = [unit_descriptors(photo.descriptors) for photo in photos]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        pairs = likely_pairs(descriptors, effort.partners, np.random.default_rng(seed))
        report(f"matching {len(pairs)} of {len(photos) * (len(photos) - 1) // 2} pairs")
        matches = [(i, j, match(descriptors[i], descriptors[j])) for i, j in pairs]
    finally:
        torch.set_num_threads(before)
    database.unlink(missing_ok=True)
    write_database(database, photos, [entry for entry in matches if len(entry[2]) >= _FEWEST_MATCHES])
    verify(database, threads, seed)
    report(f"placing {len(photos)} photos")
    return photos, damaged


def _upright(model, photos: dict[str, PhotoFeatures]) -> np.ndarray:
    """Turns the reconstruction so that +z is up; returns the rotation, (3, 3)."""
    import pycolmap

    images = [model.image(i) for i in model.reg_image_ids()]
    poses = np.tile(np.eye(4), (len(images), 1, 1))
    for pose, image in zip(poses, images):
        pose[:3] = image.cam_from_world().inverse().matrix()
    rotation = turn_upright(poses, np.array([photos[image.name].up for image in images]))
    model.transform(pycolmap.Sim3d(1.0, pycolmap.Rotation3d(rotation), np.zeros(3)))
    return rotation


def _fingerprint(files: list[Path], seed: int) -> str:
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(json.dumps([_METHOD, seed, facts]).encode()).hexdigest()


def _finished(workspace: Path, fingerprint: str) -> dict | None:
    """The report of the project in `workspace` if it is whole and made from the same photos."""
    try:
        project = json.loads((workspace / "project.json").read_text("utf-8"))
        record = json.loads((workspace / "report.json").read_text("utf-8"))
        same = project["fingerprint"] == fingerprint
        summary_line(record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    whole = all((workspace / "sparse" / "0" / f"{name}.bin").is_file() for name in ("cameras", "images"))
    return record if same and whole else None


@contextlib.contextmanager
def _building(workspace: Path) -> Iterator[Path]:
    """A folder inside `workspace` for unfinished work; removed in the end, as is a workspace left empty."""
    building = workspace / ".placing"
    made = not workspace.exists()
    try:
        shutil.rmtree(building, ignore_errors=True)  # of a run that was killed
        building.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"{workspace}: cannot be written ({error.strerror}); name another folder for the workspace"
        ) from error
    try:
        yield building
    finally:
        shutil.rmtree(building, ignore_errors=True)
        if made and workspace.exists() and not any(workspace.iterdir()):
            workspace.rmdir()


def _publish(building: Path, workspace: Path, folder: Path, project: dict) -> None:
    """Puts the finished project in its place. project.json goes first and comes last: it says all is there."""
    (workspace / "project.json").unlink(missing_ok=True)
    shutil.rmtree(workspace / "sparse", ignore_errors=True)
    for name in ("database.db", "sparse", "report.json"):
        os.replace(building / name, workspace / name)
    link = workspace / "images"
    if link.is_symlink():
        link.unlink()
    if folder.resolve() not in workspace.resolve().parents and not link.exists():
        with contextlib.suppress(
            OSError, NotImplementedError
        ):  # Windows allows links to few; see project.json
            link.symlink_to(project["images"], target_is_directory=True)
    atomic_write_json(workspace / "project.json", project)


def _relative(folder: Path, workspace: Path) -> str:
    try:
        return Path(os.path.relpath(folder.resolve(), workspace.resolve())).as_posix()
    except ValueError:  # Windows: another drive
        return folder.resolve().as_posix()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """COLMAP's log stays off the terminal, except for errors."""
    import pycolmap

    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = 2
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before


def _first(reasons: dict[str, str]) -> str:
    for name, reason in reasons.items():
        return f" (first: {name}: {reason})"
    return ""


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
