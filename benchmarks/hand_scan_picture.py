"""The picture of docs/hands.md: a raw scan with noise and holes, what registration makes of it, and how far that is from the truth.

    python -m benchmarks.hand_scan_picture

The right picture's colours go from 0 (pale) to `LIMIT` millimetres (dark).
"""

from __future__ import annotations

import numpy as np
import torch

from fieldstone.fields.articulated.built_in import built_in
from fieldstone.render.rasterise.picture import picture, write_picture
from fieldstone.tools.hand.fitting.closest import NearestOnMesh, vertex_normals
from fieldstone.tools.hand.fitting.scan import Scan
from fieldstone.tools.hand.learning.raw_scans import synthetic_scans
from fieldstone.tools.hand.learning.registration import register
from fieldstone.tools.hand.pictures import SKIN, view_of
from fieldstone.tools.hand.residual_pictures import coloured

from .harness import ROOT

LIMIT = 2.0
SIZE = 420


def main() -> None:
    data = built_in("hand")
    scans, truth = synthetic_scans(data, subjects=1, poses=1, kinds=("mesh",), rng=np.random.default_rng(3))
    scan, true = scans[0], truth.vertices[0]
    found = register(
        data, Scan(scan.vertices, vertex_normals(scan.vertices, scan.faces)), rng=np.random.default_rng(0)
    ).vertices
    distance = 1e3 * NearestOnMesh(data.faces, len(true), around=8)(true, found)[2]
    print(f"mean {distance.mean():.3f} mm, most {distance.max():.3f} mm")
    palm = data.weights[:, 0] > 0.9
    front = -vertex_normals(true, data.faces)[palm].mean(0)
    camera = view_of(
        true,
        SIZE,
        np.degrees(np.arctan2(front[0], front[2])),
        np.degrees(np.arcsin(front[1] / np.linalg.norm(front))),
    )

    def drawn(vertices: np.ndarray, faces: np.ndarray, colours: np.ndarray) -> torch.Tensor:
        return picture(
            torch.from_numpy(vertices).float(),
            torch.from_numpy(faces),
            camera,
            "lambert",
            colours=torch.from_numpy(colours).float(),
            smooth=False,
        )

    skin = np.tile(SKIN, (max(len(scan.vertices), len(true)), 1))
    panels = [
        drawn(scan.vertices, scan.faces, skin[: len(scan.vertices)]),
        drawn(found, data.faces, skin[: len(true)]),
        drawn(found, data.faces, coloured(distance, LIMIT)),
    ]
    write_picture(ROOT / "docs" / "images" / "hand_scan.png", torch.cat(panels, 1))


if __name__ == "__main__":
    main()
