"""Fieldstone: posed photos, video and scans into fields you can render, mesh and measure.

The names below are imported on first use, so `import fieldstone` is quick.
"""

from __future__ import annotations

import os

# Numba's and torch's worker threads spin against each other unless idle OpenMP threads sleep. This has to be in
# the environment before torch loads its OpenMP runtime, hence here, before any other import of ours.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from fieldstone.core.lazy import public_names

__version__ = "0.1.0"

_PUBLIC = {
    "UserError": "fieldstone.core.errors",
    "Cameras": "fieldstone.render.cameras",
    "orbit": "fieldstone.render.cameras.paths",
    "spiral": "fieldstone.render.cameras.paths",
    "open_capture": "fieldstone.datasets",
    "train_scene": "fieldstone.tools.api",
    "train_image": "fieldstone.tools.api",
    "render_image": "fieldstone.tools.api",
    "train_video": "fieldstone.tools.api",
    "render_video": "fieldstone.tools.api",
    "load_run": "fieldstone.tools.api",
    "render_views": "fieldstone.tools.api",
    "evaluate": "fieldstone.tools.api",
    "export_mesh": "fieldstone.tools.api",
    "edit_scene": "fieldstone.tools.api",
    "select_primitives": "fieldstone.tools.api",
    "Run": "fieldstone.tools.api",
}

__all__ = ["__version__", *_PUBLIC]

__getattr__, __dir__ = public_names(__name__, _PUBLIC)
