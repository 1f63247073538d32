"""Fitting primitives: `fit_line`, `fit_plane`, `fit_circle`, `fit_sphere`, `fit_cylinder`, `fit_cone`, `fit_torus`.

All take a `Cloud` or an (n, 3) array and give a `Measurement`. The keywords they share:

robust (True)
    Search for the primitive among outliers first, then fit all points within 3 sigma of it. False: least squares on all points.
sigma
    Standard deviation of the noise in the cloud's unit, where it is known; None estimates it. A cloud with `sigma` per point is
    weighted by it.
threshold
    Leave out points farther away than this, in place of 3 sigma.
norm ("gauss")
    "gauss" (orthogonal least squares), "minimum-zone", "minimum-circumscribed" or "maximum-inscribed" (`minimum_zone`) of the points
    that the robust fit keeps.
axis, radius
    Given values that are kept: the direction (3,) of a line, normal or axis; the radius of a circle, sphere or cylinder.
min_share (0.1)
    A primitive that holds a smaller share of the points is not believed.
rng, seed
    The generator of the random search; `seed` makes one (default 0) and is recorded.

Raises `UserError` for arguments that make no sense, `NotMeasurable` where the points do not determine the primitive. The result's
`extras` hold sigma, cut, arc and length seen, form deviation, and the search's number of hypotheses.
"""

from __future__ import annotations

import numpy as np

from fieldstone.core.errors import UserError

from .cloud import Cloud
from .coverage import describe_coverage
from .distances_cpu import signed
from .errors import NotMeasurable
from .estimate import final_fit, to_measurement
from .frame import Frame
from .judgement import judge, second_plane
from .primitives import PRIMITIVES
from .result import Measurement
from .robust import Subset, robust_start
from .starts import best_start

__all__ = [
    "NORMS",
    "fit_circle",
    "fit_cone",
    "fit_cylinder",
    "fit_line",
    "fit_plane",
    "fit_sphere",
    "fit_torus",
]

NORMS = ("gauss", "minimum-zone", "minimum-circumscribed", "maximum-inscribed")


def fit_line(cloud: Cloud | np.ndarray, **options) -> Measurement:
    """A line: `point` (foot of the points' centroid), `direction`."""
    return _fit("line", cloud, **options)


def fit_plane(cloud: Cloud | np.ndarray, **options) -> Measurement:
    """A plane: `point` (foot of the centroid), `normal` (to the side the cloud's normals point to, else to that of the cloud's
    viewpoint, else its largest component is positive). Warns when a second plane holds about as many points.
    """
    return _fit("plane", cloud, **options)


def fit_circle(cloud: Cloud | np.ndarray, *, method: str = "orthogonal", **options) -> Measurement:
    """A circle in space: `centre`, `normal`, `radius`.

    method "orthogonal" minimises the distances to the curve in space; "plane-then-circle" fits a plane, then a circle to the
    points projected into it, which is what NIST's reference pairs and coordinate measuring machines do. An (n, 2) array is a
    circle in the plane z = 0; with `axis`, the circle lies in planes across it.
    """
    if method not in ("orthogonal", "plane-then-circle"):
        raise UserError(f"method {method!r}: orthogonal or plane-then-circle")
    if isinstance(cloud, np.ndarray) and cloud.ndim == 2 and cloud.shape[1] == 2:
        cloud = np.column_stack([cloud, np.zeros(len(cloud))])
        options["axis"] = [0.0, 0.0, 1.0]
    if options.get("axis") is not None:
        return _fit("ring", cloud, kind="circle", **options)
    if method == "orthogonal":
        return _fit("circle", cloud, **options)
    rough = _fit("circle", cloud, **{k: v for k, v in options.items() if k != "norm"})
    cloud = _as_cloud(cloud, options.get("unit"))
    kept = cloud.select(rough.inliers)
    plane = _fit("plane", kept, **{**options, "robust": False, "norm": "gauss", "radius": None})
    ring = _fit("ring", kept, kind="circle", **{**options, "robust": False, "axis": plane["normal"]})
    return _joined(plane, ring, rough)


def fit_sphere(cloud: Cloud | np.ndarray, **options) -> Measurement:
    """A sphere: `centre`, `radius`."""
    return _fit("sphere", cloud, **options)


def fit_cylinder(cloud: Cloud | np.ndarray, **options) -> Measurement:
    """A cylinder: `axis_point` (foot of the centroid), `axis_direction` (largest component positive), `radius`."""
    return _fit("cylinder", cloud, **options)


def fit_cone(cloud: Cloud | np.ndarray, **options) -> Measurement:
    """A cone: `axis_point`, `axis_direction` (towards growing radius), `radius` at axis_point, `half_angle_deg`, `apex`."""
    return _fit("cone", cloud, **options)


def fit_torus(cloud: Cloud | np.ndarray, **options) -> Measurement:
    """A torus: `centre`, `axis_direction`, `major_radius` of the spine circle, `minor_radius` of the tube."""
    return _fit("torus", cloud, **options)


def _fit(
    name: str,
    cloud: Cloud | np.ndarray,
    *,
    kind: str | None = None,
    robust: bool = True,
    sigma: float | None = None,
    threshold: float | None = None,
    norm: str = "gauss",
    axis: np.ndarray | None = None,
    radius: float | None = None,
    min_share: float = 0.1,
    rng: np.random.Generator | None = None,
    seed: int | None = None,
    unit: str | None = None,  # of an array
) -> Measurement:
    primitive = PRIMITIVES[name]
    cloud = _as_cloud(cloud, unit)
    if norm not in NORMS:
        raise UserError(f"norm {norm!r}: one of {', '.join(NORMS)}")
    for word, value in (("sigma", sigma), ("threshold", threshold), ("radius", radius)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise UserError(f"{word} {value}: give a number above 0")
    if (radius is not None and "s0" not in primitive.unknowns) or (
        radius is not None and name in ("cone", "torus")
    ):
        raise UserError(f"a {kind or name} has no radius to be given")
    points = cloud.points
    fixed = tuple(word for word, value in (("axis", axis), ("radius", radius)) if value is not None)
    if axis is not None:
        axis = np.asarray(axis, np.float64).reshape(3)
        if not np.isfinite(axis).all() or not np.linalg.norm(axis) > 0:
            raise UserError(f"axis {axis.tolist()}: give a direction")
        axis = axis / np.linalg.norm(axis)
    unknowns = len(primitive.columns(fixed))
    fewest = -(-unknowns // primitive.dimensions)
    if len(points) < fewest:
        raise NotMeasurable(
            f"a {kind or name} needs {fewest} points, found {len(points)}: choose a larger region"
        )
    if seed is None and rng is None:
        seed = 0
    rng = np.random.default_rng(seed) if rng is None else rng
    weights = None
    if cloud.sigma is not None:
        typical = float(np.median(cloud.sigma))
        weights = typical / np.maximum(cloud.sigma, 1e-3 * typical) if typical > 0 else None
    extras: dict = {"norm": norm, "robust": robust, "fixed": list(fixed)}
    warnings: list[str] = []
    subset = None
    if robust and len(points) > unknowns:
        wanted = primitive.needs_normals and axis is None
        subset = Subset(points, cloud.normals, wanted, rng, even=primitive.dimensions == 1)
        start = robust_start(
            primitive,
            subset,
            rng,
            sigma=sigma or (threshold and threshold / 3),
            axis=axis,
            fixed=fixed,
            radius=radius,
            min_share=min_share,
        )
        extras |= {"hypotheses": start.tried}
        frame, first = start.frame, start.sigma
    else:
        frame, first = best_start(primitive, points, fixed, axis), None
        if radius is not None:
            frame = Frame(frame.origin, frame.axes, np.array([radius, 0.0]))
    frame = _placed(name, frame, cloud, first and max(first, 1e-300))
    estimate = final_fit(
        primitive,
        points,
        frame,
        sigma=first,
        known_sigma=sigma,
        threshold=threshold,
        weights=weights,
        fixed=fixed,
    )
    extras |= describe_coverage(primitive, points, estimate.frame, estimate.sides)
    warnings += judge(primitive, estimate, cloud, extras, min_share if robust else 0.0, subset)
    if name == "plane" and subset is not None:
        warnings += second_plane(primitive, subset, estimate, cloud, rng)
    measured = to_measurement(
        primitive, estimate, cloud, kind=kind or name, seed=seed, warnings=warnings, extras=extras
    )
    if norm != "gauss":
        from .minimum_zone import extreme_fit

        return extreme_fit(primitive, estimate, cloud, measured, norm, fixed)
    return measured


def _as_cloud(cloud: Cloud | np.ndarray, unit: str | None) -> Cloud:
    if isinstance(cloud, Cloud):
        if unit is not None and unit != cloud.unit:
            raise UserError(f"the cloud's unit is {cloud.unit}, not {unit}: use cloud.to_unit")
        return cloud
    return Cloud.from_points(np.asarray(cloud), unit)


def _placed(name: str, frame: Frame, cloud: Cloud, sigma: float | None) -> Frame:
    """The start with its axis in the reported sense and its origin at the foot of the (roughly) used points' centroid.

    The place of the origin along the axis decides what the covariance of `axis_point` means, so it is settled before the last fit.
    """
    points = cloud.points[:: max(1, len(cloud) // 4096)]
    if sigma is not None:
        close = np.abs(signed(PRIMITIVES[name], np.ascontiguousarray(points), frame)) <= 4 * sigma
        points = points[close] if close.sum() >= 3 else points
    centroid = points.mean(axis=0)
    axis, sizes, origin = frame.axis, frame.sizes, frame.origin
    if name == "cone":
        sine = np.sin(sizes[1])
        moved = Frame(origin, frame.axes, sizes).slid_to(centroid)
        sizes = np.array([sizes[0] + (moved.origin - origin) @ axis * sine, sizes[1]])
        origin = moved.origin
        if sizes[1] < 0:
            axis, sizes = -axis, np.array([sizes[0], -sizes[1]])
        if sizes[0] < 0:  # the other nappe of the same cone
            axis, sizes = -axis, np.array([-sizes[0], sizes[1]])
    elif name in ("line", "cylinder"):
        origin = frame.slid_to(centroid).origin
    elif name == "plane":
        origin = centroid - ((centroid - origin) @ axis) * axis
    elif name == "ring":
        origin = frame.slid_to(centroid).origin
    if name != "cone":
        side = axis[np.argmax(np.abs(axis))]
        if name == "plane" and cloud.normals is not None:
            votes = float(np.sign(cloud.normals[:: max(1, len(cloud) // 4096)] @ axis).sum())
            side = votes if abs(votes) > 0 else side
        elif name == "plane" and cloud.viewpoint is not None:
            side = float((cloud.viewpoint - origin) @ axis) or side
        axis = axis if side >= 0 else -axis
    return Frame.from_axis(origin, axis, sizes)


def _joined(plane: Measurement, ring: Measurement, rough: Measurement) -> Measurement:
    """The two steps of a plane-then-circle fit as one measurement; the plane's part of the covariance moves the centre along it."""
    normal = plane["normal"]
    offset = (ring["centre"] - plane["point"]) @ normal
    ring.parameters["centre"] = (ring["centre"] - offset * normal).tolist()
    lever = ring["centre"] - plane["point"]
    to_plane = np.hstack([np.outer(normal, normal), -np.outer(normal, lever)])
    along = to_plane @ plane.covariance_of("point", "normal") @ to_plane.T
    centre, turned = ring.indices("centre"), ring.indices("normal")
    ring.covariance = ring.covariance.copy()
    ring.covariance[np.ix_(centre, centre)] += along
    ring.covariance[np.ix_(turned, turned)] = plane.covariance_of("normal")
    cross = to_plane @ plane.covariance_of("point", "normal")[:, 3:]
    ring.covariance[np.ix_(centre, turned)] = cross
    ring.covariance[np.ix_(turned, centre)] = cross.T
    ring.extras |= {
        "method": "plane-then-circle",
        "out_of_plane_rms": plane.rms,
        "sigma_plane": plane.extras["sigma"],
    }
    inliers = rough.inliers.copy()
    ring.inliers, ring.n_total = inliers, rough.n_total
    ring.warnings = rough.warnings
    return ring
