"""E57 (ASTM E2807), through pye57. Its coordinates are metres, and each scan has a pose."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError
from fieldstone.core.lazy import require

from .raw import MOST_POINTS, Raw

__all__ = ["read"]


def read(path: Path) -> Raw:
    """All scans of the file in its common frame: each scan's pose is applied. The unit is metres. Raises `UserError`."""
    pye57 = require("pye57", "measure", "E57 files")
    points, colours = [], []
    try:
        file = pye57.E57(str(path))
        try:
            count = sum(file.get_header(i).point_count for i in range(file.scan_count))
            if count > MOST_POINTS:
                raise UserError(f"{path}: {count} points are more than the {MOST_POINTS} we read")
            for i in range(file.scan_count):
                scan = file.read_scan(i, ignore_missing_fields=True, colors=True, transform=True)
                points.append(np.stack([scan[f"cartesian{axis}"] for axis in "XYZ"], axis=1))
                if "colorRed" in scan:
                    colours.append(np.stack([scan[f"color{c}"] for c in ("Red", "Green", "Blue")], axis=1))
        finally:
            file.close()
    except UserError:
        raise
    except Exception as error:  # the library underneath raises types of its own
        raise UserError(f"{path}: pye57 cannot read it ({type(error).__name__}: {error})") from error
    if not points:
        raise UserError(f"{path}: this E57 file holds no scan")
    whole = len(colours) == len(points)
    notes = (f"{len(points)} scans joined by their poses",) if len(points) > 1 else ()
    return Raw(
        points=np.concatenate(points),
        colours=np.clip(np.concatenate(colours), 0, 255).astype(np.uint8) if whole else None,
        unit="m",
        notes=notes,
    )
