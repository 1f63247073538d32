"""Measuring point clouds: clouds with units, features with uncertainty, tolerances with a verdict.

    from fieldstone.tools import measure
    cloud = measure.read("flange.ply", unit="mm")
    plane = measure.fit_plane(cloud)
    plane["normal"], plane.standard_uncertainty()

The names are imported on first use, so that `fieldstone measure --help` is quick.
"""

from __future__ import annotations

from fieldstone.core.lazy import public_names

_PUBLIC = {
    "Cloud": ".cloud",
    "Measurement": ".result",
    "NotMeasurable": ".errors",
    "read": ".io",
    "write_ply": ".io",
    "write_json": ".result",
    "fit_line": ".fit",
    "fit_plane": ".fit",
    "fit_circle": ".fit",
    "fit_sphere": ".fit",
    "fit_cylinder": ".fit",
    "fit_cone": ".fit",
    "fit_torus": ".fit",
    "fit_thread": ".thread",
    "find_holes": ".holes",
    "measure_flange": ".flange",
    "match_holes": ".match",
    "read_plan": ".plan",
    "run_plan": ".tolerances",
    "write_report": ".report",
    "decode": ".structured_light",
    "calibrate": ".structured_light",
    "simulate": ".simulate",
}

__all__ = list(_PUBLIC)

__getattr__, __dir__ = public_names(__name__, _PUBLIC)
