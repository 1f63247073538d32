"""Folders of images beside poses: `images`, and `images_2`, `images_4`, ... with smaller copies."""

from __future__ import annotations

import re
from pathlib import Path

from ..image_file import IMAGE_SUFFIXES

__all__ = ["image_files", "image_folders"]

_FULL = ("images", "input", "rgb", "color")


def image_files(folder: Path) -> list[Path]:
    """Files directly in `folder` whose suffix is an image's, in name order."""
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file() and not entry.name.startswith(".")
    )


def image_folders(folder: Path, downscale: float) -> list[tuple[Path, float]]:
    """Candidate image folders in `folder` and how many times reduced each is, best for `downscale` first.

    Best is the most reduced one that is not smaller than asked for (the benchmarks' own reduced copies are
    what their published numbers were measured on); then ever smaller ones, as full images may be missing.
    """
    found = []
    for entry in folder.iterdir():
        match = re.fullmatch(r"images_(\d{1,3})", entry.name)
        if entry.is_dir() and (match or entry.name in _FULL):
            found.append((entry, float(match.group(1)) if match else 1.0))
    found = [(entry, factor) for entry, factor in found if factor >= 1]
    large_enough = sorted((f for f in found if f[1] <= downscale), key=lambda f: (-f[1], f[0].name))
    return large_enough + sorted((f for f in found if f[1] > downscale), key=lambda f: (f[1], f[0].name))
