"""The child process of `atlas`: `python atlas_worker.py IN.npz OUT.npz SIZE PADDING`.

Run by its path, so that it loads NumPy and xatlas only and not the package with torch.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main(given: str, found: str, size: str, padding: str) -> None:
    """Reads `vertices` (v, 3) float32, `faces` (f, 3) uint32; writes `source`, `faces`, `uv` of one atlas."""
    import numpy as np
    import xatlas

    with np.load(given, allow_pickle=False) as data:
        atlas = xatlas.Atlas()
        atlas.add_mesh(data["vertices"], data["faces"])
    charts = xatlas.ChartOptions()
    charts.max_iterations = 1
    packing = xatlas.PackOptions()
    packing.resolution = int(size)
    packing.padding = int(padding)
    packing.bilinear = True
    atlas.generate(charts, packing)
    if atlas.atlas_count != 1:
        raise RuntimeError(f"charts need {atlas.atlas_count} textures of {size} texels; enlarge texture_size")
    source, faces, uv = atlas[0]
    np.savez(found, source=source, faces=faces, uv=uv)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its file names are not meant as top-level modules
    main(*sys.argv[1:])
