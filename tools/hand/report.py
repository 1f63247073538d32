"""What `hand info` says about a model."""

from __future__ import annotations

import numpy as np

from ...fields.articulated.geometry import boundary_loops, mesh_volume
from ...fields.articulated.mano_file import ForeignModel
from ...fields.articulated.model_data import ModelData

__all__ = ["foreign_lines", "model_lines", "model_report"]


def model_report(data: ModelData, foreign: ForeignModel | None = None) -> dict:
    """Sizes, units, topology and hash as plain data."""
    loops = boundary_loops(data.faces)
    low, high = data.template.min(0), data.template.max(0)
    report = {
        "layout": data.layout,
        "side": data.side,
        "vertices": len(data.template),
        "faces": len(data.faces),
        "joints": len(data.parents),
        "shape_directions": data.shape_basis.shape[2],
        "pose_components": len(data.pose_components),
        "pose_correctives": data.pose_correctives.shape[2] if data.pose_correctives.any() else 0,
        "open_loops": [len(loop) for loop in loops],
        "size_mm": [round(float(x) * 1e3, 1) for x in high - low],
        "most_influences": int((data.weights > 1e-6).sum(1).max()),
        "fingertips": data.fingertips.tolist(),
        "joint_names": list(data.joint_names),
        "parents": data.parents.tolist(),
        "sha256": data.sha256(),
        "info": data.info,
    }
    if not loops:
        report["volume_cm3"] = round(mesh_volume(data.template, data.faces) * 1e6, 2)
    if foreign is not None:
        report["file"] = {
            "kind": foreign.kind,
            "sha256": foreign.sha256,
            "keys": foreign.keys,
            "names": list(foreign.names),
            "notes": foreign.notes,
        }
    return report


def model_lines(data: ModelData) -> list[str]:
    """The report for people."""
    report = model_report(data)
    shape = " x ".join(f"{x:g}" for x in report["size_mm"])
    loops = report["open_loops"]
    surface = (
        f"open at {len(loops)} loop{'s' if len(loops) > 1 else ''} of {', '.join(map(str, loops))} vertices"
        if loops
        else f"closed, {report['volume_cm3']:g} cm3"
    )
    lines = [
        f"{data.layout}, side {data.side}: {report['vertices']} vertices, {report['faces']} faces, {report['joints']} joints",
        f"shape directions {report['shape_directions']}, pose components {report['pose_components']}, pose correctives "
        f"{report['pose_correctives']}, at most {report['most_influences']} joints a vertex",
        f"{shape} mm, {surface}",
        f"arrays sha256 {report['sha256']}",
    ]
    if np.any(data.fingertips):
        lines.append("fingertip vertices " + " ".join(map(str, report["fingertips"])))
    lines += [f"{key}: {value}" for key, value in sorted(data.info.items())]
    return lines


def foreign_lines(foreign: ForeignModel) -> list[str]:
    """What else there is to say about a file that is not ours."""
    lines = [f"file: {foreign.kind}, sha256 {foreign.sha256}"]
    lines += [f"  {key}: {shape}" for key, shape in foreign.keys.items()]
    if foreign.names:
        lines.append("names in the pickle, all known, none executed: " + ", ".join(foreign.names))
    return lines + [f"note: {note}" for note in foreign.notes]
