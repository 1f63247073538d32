"""Where a part deviates from a fitted primitive: the map of the deviations over the surface, and their histogram."""

from __future__ import annotations

import numpy as np

from .cloud import Cloud
from .colour_map import coloured, nice_ceiling, strip
from .distances_cpu import signed
from .frame import Frame
from .primitives import PRIMITIVES, Primitive
from .result import Measurement
from .svg import Drawing

__all__ = ["frame_of", "pictures"]

_WIDTH, _CELLS, _MOST_DOTS = 640, 150, 6000


def frame_of(measurement: Measurement, origin: np.ndarray) -> tuple[Primitive, Frame] | None:
    """The primitive and frame that a fit's parameters say, in the cloud's coordinates less `origin`; None for other kinds."""
    if measurement.kind not in ("line", "plane", "circle", "sphere", "cylinder", "cone", "torus"):
        return None
    p = measurement.parameters
    place = next(measurement[n] for n in ("point", "centre", "axis_point") if n in p) - origin
    axis = next(
        (measurement[n] for n in ("normal", "direction", "axis_direction") if n in p), np.array([0, 0, 1.0])
    )
    half = np.radians(p.get("half_angle_deg", 0.0))
    sizes = (p.get("major_radius", p.get("radius", 0.0) * np.cos(half)), p.get("minor_radius", half))
    return PRIMITIVES[measurement.kind], Frame.from_axis(place, axis, sizes)


def pictures(measurement: Measurement, cloud: Cloud) -> dict[str, str]:
    """{title: inline SVG} of a primitive fit to `cloud`; none for other kinds, or where the points used are not known."""
    found = frame_of(measurement, cloud.origin)
    if found is None or measurement.inliers is None or len(measurement.inliers) != len(cloud):
        return {}
    primitive, frame = found
    points = np.ascontiguousarray(cloud.points[measurement.inliers])
    local = frame.local(points)
    unit = measurement.unit or "no unit"
    if primitive.dimensions == 2:
        return _curve(primitive, frame, local, unit)
    deviation = signed(primitive, points, frame)
    u, v, labels, equal = _unrolled(primitive, frame, local, unit)
    return {
        "Deviation map": _map(u, v, deviation, labels, equal, unit),
        "Residuals": _histogram(deviation, measurement, unit),
    }


def _unrolled(primitive: Primitive, frame: Frame, local: np.ndarray, unit: str):
    """Two surface coordinates, their labels, and whether they share one scale."""
    x, y, z = local.T
    angle = np.degrees(np.arctan2(y, x))
    turn = "angle about the axis (degrees)"
    if primitive.name == "plane":
        main = np.linalg.svd(
            local[:: max(1, len(local) // 5000), :2] - local[:, :2].mean(axis=0), full_matrices=False
        )[2]
        along = main[0] if main[0][np.argmax(np.abs(main[0]))] > 0 else -main[0]
        return (
            local[:, :2] @ along,
            local[:, :2] @ np.array([-along[1], along[0]]),
            (f"along the plane ({unit})", f"across ({unit})"),
            True,
        )
    if primitive.name == "sphere":
        return angle, z, (turn, f"height ({unit})"), False
    if primitive.name == "torus":
        tube = np.degrees(np.arctan2(z, np.hypot(x, y) - frame.sizes[0]))
        return angle, tube, (turn, "angle around the tube (degrees)"), False
    return angle, z, (turn, f"along the axis ({unit})"), False


def _map(u, v, deviation, labels, equal: bool, unit: str) -> str:
    u_range, v_range = (float(u.min()), float(u.max())), (float(v.min()), float(v.max()))
    spans = [max(r[1] - r[0], 1e-12) for r in (u_range, v_range)]
    # cells of about 25 points where there are few points, else as fine as the picture
    most = max(12, min(_CELLS, int(np.sqrt(len(u) / 6))))
    shape = [most, most]
    if equal:
        shape = [max(2, int(most * s / max(spans))) for s in spans]
    cells = [
        np.minimum(((w - r[0]) / s * n).astype(int), n - 1)
        for w, r, s, n in zip((u, v), (u_range, v_range), spans, shape)
    ]
    flat = (shape[1] - 1 - cells[1]) * shape[0] + cells[0]
    count = np.bincount(flat, minlength=shape[0] * shape[1])
    total = np.bincount(flat, deviation, minlength=shape[0] * shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (total / count).reshape(shape[1], shape[0])
    reach = nice_ceiling(float(np.nanpercentile(np.abs(mean), 99)))
    height = 380
    if equal:
        height = int(np.clip((_WIDTH - 72) * spans[1] / spans[0] + 76, 160, 560))
    drawing = Drawing(_WIDTH, height, u_range, v_range, *labels, equal=equal)
    drawing.image(coloured(mean, -reach, reach, two_sided=True), u_range, v_range)
    drawing.note(f"mean deviation in each of {shape[0]} x {shape[1]} cells, {len(u):,} points")
    return drawing.to_svg() + strip(
        -reach, reach, f"deviation ({unit}), positive outside", two_sided=True, width=_WIDTH
    )


def _histogram(deviation: np.ndarray, measurement: Measurement, unit: str) -> str:
    low, high = (float(v) for v in np.percentile(deviation, [0.05, 99.95]))
    room = 0.15 * (high - low)
    low, high = max(low - room, float(deviation.min())), min(high + room, float(deviation.max()))
    outside = int(((deviation < low) | (deviation > high)).sum())
    edges = np.linspace(low, high, min(80, max(12, len(deviation) // 40)) + 1)
    if edges[0] == edges[-1]:
        edges = np.linspace(edges[0] - 0.5e-9, edges[0] + 0.5e-9, 13)
    counts, _ = np.histogram(deviation, edges)
    sigma = measurement.extras.get("sigma")
    drawing = Drawing(
        _WIDTH,
        260,
        (float(edges[0]), float(edges[-1])),
        (0.0, 1.08 * counts.max()),
        f"deviation ({unit})",
        "points",
    )
    for low, high, n in zip(edges, edges[1:], counts):
        drawing.bar(low, high - 0.08 * (high - low), 0.0, float(n), "#7aa3cc")
    if sigma and sigma > 0:
        x = np.linspace(edges[0], edges[-1], 200)
        bell = (
            len(deviation)
            * (edges[1] - edges[0])
            / (sigma * np.sqrt(2 * np.pi))
            * np.exp(-0.5 * (x / sigma) ** 2)
        )
        drawing.line(x, bell, "#a51923", 1.6)
        drawing.note(
            f"red: normal distribution of sigma {sigma:.3g} {unit}; rms {measurement.rms:.3g} {unit}"
        )
    if outside:
        drawing.note(f"{outside} points lie outside the picture")
    return drawing.to_svg()


def _curve(primitive: Primitive, frame: Frame, local: np.ndarray, unit: str) -> dict[str, str]:
    local = local[:: max(1, len(local) // _MOST_DOTS)]
    x, y, z = local.T
    if primitive.name == "line":
        along, label = z, f"along the line ({unit})"
        parts = (("across x", x), ("across y", y))
    else:
        along, label = np.degrees(np.arctan2(y, x)), "angle (degrees)"
        parts = (("radial", np.hypot(x, y) - frame.sizes[0]), ("out of plane", z))
    out = {}
    for name, deviation in parts:
        reach = nice_ceiling(float(np.abs(deviation).max()))
        drawing = Drawing(
            _WIDTH, 240, (float(along.min()), float(along.max())), (-reach, reach), label, f"{name} ({unit})"
        )
        drawing.line(np.array([along.min(), along.max()]), np.zeros(2), "#888", 1.0, dashed=True)
        drawing.dots(along, deviation, ["#1f5fa8"] * len(along), 1.8)
        out[f"Deviation, {name}"] = drawing.to_svg()
    return out
