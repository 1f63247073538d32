"""Cutting a surface into flat charts (xatlas), in a process of its own.

xatlas cannot be interrupted and may take hours on large meshes; a child process can be stopped, by the clock
or by Ctrl-C."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["Atlas", "parametrise"]

PADDING = 4
"""Texels between charts."""

_WORKER = Path(__file__).with_name("atlas_worker.py")


class Atlas(NamedTuple):
    """Vertices are repeated where charts are cut apart."""

    source: np.ndarray  # (w,) int64 which vertex of the surface each atlas vertex is
    faces: np.ndarray  # (f, 3) int64 into the atlas vertices, in the surface's face order
    uv: np.ndarray  # (w, 2) float64 in [0, 1], v upwards


def parametrise(
    vertices: np.ndarray,
    faces: np.ndarray,
    size: int,
    time_limit: float = 600.0,
    progress: Callable[[float], None] | None = None,
) -> Atlas:
    """Charts of the surface packed for a `size` x `size` texture with PADDING texels between them.

    `progress` is told the share of the time limit used, as xatlas itself reports nothing.
    Raises UserError when `time_limit` seconds pass, or when xatlas fails.
    """
    centre = vertices.mean(0)
    scale = float(np.abs(vertices - centre).max()) or 1.0
    with tempfile.TemporaryDirectory(prefix="fieldstone-atlas-") as folder:
        given, found = Path(folder) / "surface.npz", Path(folder) / "atlas.npz"
        np.savez(
            given, vertices=((vertices - centre) / scale).astype(np.float32), faces=faces.astype(np.uint32)
        )
        child = subprocess.Popen(
            [sys.executable, str(_WORKER), str(given), str(found), str(size), str(PADDING)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            _wait(child, len(faces), time_limit, progress)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        with np.load(found, allow_pickle=False) as data:
            return Atlas(
                data["source"].astype(np.int64), data["faces"].astype(np.int64), data["uv"].astype(np.float64)
            )


def _wait(
    child: subprocess.Popen, faces: int, time_limit: float, progress: Callable[[float], None] | None
) -> None:
    start = time.monotonic()
    while True:
        try:
            _, errors = child.communicate(timeout=0.5)
            break
        except subprocess.TimeoutExpired:
            used = (time.monotonic() - start) / time_limit
            if used >= 1:
                raise UserError(
                    f"texture: cutting {faces} faces into charts took over {time_limit:.0f} s; "
                    f"ask for fewer faces (target_faces={faces // 4}) or for vertex colours"
                ) from None
            if progress is not None:
                progress(used)
    if child.returncode != 0:
        lines = errors.decode("utf-8", "replace").strip().splitlines()
        raise UserError(
            f"texture: xatlas failed on {faces} faces: {lines[-1] if lines else child.returncode}"
        )
