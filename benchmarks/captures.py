"""The captures that benchmarks train on: the bundled scene always, real ones where a checkout has them beside it."""

from __future__ import annotations

from pathlib import Path

from .harness import ROOT

__all__ = ["CAPTURES", "locate"]

SHARED = ROOT.parent / "shared" / "data"

CAPTURES: dict[str, dict] = {
    "bundled": {"path": None, "downscale": 1},
    "lego400": {"path": SHARED / "lego400", "downscale": 1},
    "fox": {"path": SHARED / "fox", "downscale": 4},
}
"""Name -> where it lies (None: made on first use) and by how much its images are shrunk."""


def locate(name: str) -> tuple[Path | None, int] | None:
    """(path, downscale) of a capture, or None when its data is not on this machine."""
    entry = CAPTURES[name]
    if entry["path"] is not None and not entry["path"].is_dir():
        return None
    return entry["path"], entry["downscale"]
