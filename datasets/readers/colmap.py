"""COLMAP projects: a sparse model (binary or text) and the photos it was made from.

The model is looked for in the folder itself and in sparse/0, sparse, colmap/sparse/0 and colmap/sparse; of
several numbered models the one with most images is read. Images are looked for in images (or images_2,
images_4, ... for a matching downscale) beside the model or up to three folders above it. Photos may be
distorted: cameras carry their lens. COLMAP's own masks (masks/<image>.png, zero = do not use) are read.
"""

from __future__ import annotations

import json
from pathlib import Path

from fieldstone.core.errors import UserError

from ..reading import Frame, Reading, listed
from .colmap_model import PosedImage, model_suffix, read_images, read_lenses, read_points
from .image_folder import image_folders

__all__ = ["FORMAT", "LOOKED_FOR", "read", "recognise"]

FORMAT = "colmap"
LOOKED_FOR = (
    "cameras and images (.bin or .txt) in sparse/0, sparse, colmap/sparse/0 or the folder itself (COLMAP)"
)

_PLACES = ("", "sparse", "colmap/sparse", "colmap")


def _models(path: Path) -> list[Path]:
    found = []
    for place in _PLACES:
        folder = path / place
        if folder.is_dir():
            numbered = (entry for entry in folder.iterdir() if entry.name.isdigit() and entry.is_dir())
            found += [entry for entry in (folder, *sorted(numbered)) if model_suffix(entry)]
    return found


def recognise(path: Path) -> str | None:
    """Why `path` (the project or the model's folder) looks like this format, or None."""
    models = _models(path) if path.is_dir() else []
    return f"a model in {models[0].relative_to(path).as_posix() or '.'}" if models else None


def read(path: Path, downscale: float = 1) -> Reading:
    """Registered images in name order; those whose file is missing are skipped with a note."""
    notes: list[str] = []
    models = [(read_images(folder), folder) for folder in _models(path)]
    images, model = max(models, key=lambda entry: len(entry[0]))  # the first of equals
    if len(models) > 1:
        others = [
            f"{folder.relative_to(path).as_posix()} with {len(i)} images"
            for i, folder in models
            if folder != model
        ]
        notes.append(
            f"read model {model.relative_to(path).as_posix()} ({len(images)} images), not {listed(others)}"
        )
    if not images:
        raise UserError(f"{model}: the model has no images; run the reconstruction again")
    lenses = read_lenses(model)
    images.sort(key=lambda image: image.name)
    base, files, reduced = _find_images(path, model, images, downscale)
    if reduced != 1:
        notes.append(f"images are those of {base.name}, {reduced:g} times reduced")
    missing = [image.name for image in images if image.name not in files]
    if missing:
        notes.append(f"{len(missing)} images of the model are not in {base}: {listed(missing)}")
    frames = []
    for image in images:
        if image.name not in files:
            continue
        if image.lens not in lenses:
            raise UserError(
                f"{model}: image {image.name} uses camera {image.lens}, which the model does not have"
            )
        mask = base.parent / "masks" / f"{image.name}.png"
        frames.append(
            Frame(
                name=image.name,
                image=files[image.name],
                lens=lenses[image.lens],
                camera_to_world=image.camera_to_world,
                mask=mask if mask.is_file() else None,
            )
        )
    points, colours = read_points(model)
    return Reading(
        name=path.resolve().name,
        folder=path,
        format=FORMAT,
        frames=frames,
        points=points,
        point_colours=colours,
        reduced=reduced,
        notes=notes,
    )


def _find_images(
    path: Path, model: Path, images: list[PosedImage], downscale: float
) -> tuple[Path, dict[str, Path], float]:
    """The folder that holds most of the model's images, image name -> file, and how many times reduced they
    are."""
    best: tuple[Path, dict[str, Path], float] | None = None
    above = [model, *list(model.resolve().parents)[:3]]
    candidates = [c for folder in dict.fromkeys([path, *above]) for c in image_folders(folder, downscale)]
    candidates += [
        (named, 1.0) for folder in dict.fromkeys([path, *above]) if (named := _named_folder(folder))
    ]
    candidates += [
        (folder, 1.0) for folder in dict.fromkeys([path, *above])
    ]  # photos lie loose beside the model
    for folder, reduced in candidates:
        files = {image.name: file for image in images if (file := _file(folder, image.name)) is not None}
        if best is None or len(files) > len(best[1]):
            best = folder, files, reduced
    if best is None or not best[1]:
        raise UserError(
            f"{path}: none of the {len(images)} images of the model is there (first {images[0].name}); "
            "put the photos in a folder named images beside sparse"
        )
    return best


def _named_folder(project: Path) -> Path | None:
    """The folder of photos that a project of ours names, for systems where it could not be linked to."""
    try:
        record = json.loads((project / "project.json").read_text("utf-8"))
        folder = project / record["images"]
        return folder if folder.is_dir() else None
    except (OSError, ValueError, KeyError, TypeError):  # not a project of ours
        return None


def _file(folder: Path, name: str) -> Path | None:
    path = folder / name
    try:
        if path.is_file():
            return path
        for suffix in (".png", ".jpg", ".JPG"):  # reduced copies are often of another type
            if path.with_suffix(suffix).is_file():
                return path.with_suffix(suffix)
    except (OSError, ValueError):
        return None
    return None
