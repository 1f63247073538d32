"""Whether a fit may be believed: too few points, too short an arc, an ambiguous datum."""

from __future__ import annotations

import numpy as np

from .cloud import Cloud
from .distances_cpu import signed
from .errors import NotMeasurable
from .estimate import Estimate
from .primitives import Primitive

__all__ = ["judge", "second_plane"]

_SHORT_ARC = 30.0  # degrees
_LOOSE_TILT = 0.5  # degrees
_COARSE = 0.2  # sigma over radius, or over the extent of a plane or line
_BACKGROUND = 0.2  # share of the band
_AS_LARGE = 0.8  # of the points of the first plane


def judge(
    primitive: Primitive, estimate: Estimate, cloud: Cloud, extras: dict, min_share: float, subset
) -> list[str]:
    """Warnings; raises `NotMeasurable` when the points do not support the primitive at all."""
    name, unit = "circle" if primitive.name == "ring" else primitive.name, cloud.unit or ""
    share = estimate.sides.used / len(cloud)
    if share < min_share:
        raise NotMeasurable(
            f"the best {name} holds {share:.1%} of {len(cloud)} points within {estimate.cut:.3g} {unit}, need {min_share:.0%}: "
            "choose a region, raise the threshold, or lower min_share"
        )
    if subset is not None and not _significant(primitive, estimate, subset):
        raise NotMeasurable(
            f"no {name} stands out: the best holds {share:.1%} of {len(cloud)} points within {estimate.cut:.3g} {unit}, which random "
            "points would also give; choose a region, or give sigma"
        )
    warnings = []
    deviation = np.sqrt(np.diag(estimate.covariance))
    at = {unknown: i for i, unknown in enumerate(primitive.unknowns)}
    arc = extras.get("arc_deg")
    if "s0" in at:
        spread, radius = deviation[at["s0"]], abs(estimate.frame.sizes[0])
        if estimate.sigma > _COARSE * radius:
            raise NotMeasurable(
                f"the points scatter by {estimate.sigma:.3g} {unit} about the best {name}, of radius {radius:.4g} {unit}: that is not a "
                f"{name}; choose a region, or give sigma"
            )
        seen = f"arc {arc:.0f} deg: " if arc is not None else ""
        if spread > 0.1 * radius:
            raise NotMeasurable(
                f"{name}: {seen}radius {radius:.4g} {unit} with standard deviation {spread:.2g} is not determined; give the nominal "
                "radius, or a wider view"
            )
        if arc is not None and arc < _SHORT_ARC:
            warnings.append(
                f"{seen}radius standard deviation {spread:.2g} {unit}; consider the nominal radius, or a wider view"
            )
    size = min(extras["size"]) if name == "plane" else extras.get("length") if name == "line" else None
    if size is not None and estimate.sigma > _COARSE * size:
        raise NotMeasurable(
            f"the points scatter by {estimate.sigma:.3g} {unit} about the best {name}, which spans {size:.3g} {unit}: that is not a {name}; "
            "choose a region, or give sigma"
        )
    if "tx" in at:
        tilt = float(np.degrees(np.hypot(deviation[at["tx"]], deviation[at["ty"]])))
        if tilt > 20:
            raise NotMeasurable(
                f"{name}: its direction has a standard deviation of {tilt:.0f} deg; the points do not determine it: "
                "give the axis, or a larger region"
            )
        if tilt > _LOOSE_TILT and primitive.name in ("cylinder", "cone"):
            warnings.append(
                f"{name} {extras.get('length', 0):.3g} {unit} long: axis tilt standard deviation {tilt:.2f} deg; too shallow for an "
                "axis of its own: give the axis (the face's normal)"
            )
    if estimate.background > _BACKGROUND:
        warnings.append(
            f"{estimate.background:.0%} of the points within {estimate.cut:.3g} {unit} look like background; "
            "the uncertainty allows for it, a region of interest removes it"
        )
    if not estimate.converged:
        warnings.append("the least-squares iteration did not settle")
    return warnings


def _significant(primitive: Primitive, estimate: Estimate, subset) -> bool:
    """A-contrario test (Moisan and Stival, IJCV 57 (2004) 201) on the subset: log10 of the expected number of chance primitives < 0.

    By chance a point falls within the cut with the ratio of the band to half the cloud's extent.
    """
    distance = np.abs(signed(primitive, subset.points, estimate.frame))
    n, k = len(distance), int((distance <= estimate.cut).sum())
    if n <= 2 * len(primitive.unknowns) or k == n:
        return True
    width = max(subset.extent / 2, 1e-300)
    chance = min((estimate.cut / width) ** primitive.dimensions, 1.0)
    if not 0 < chance < 1 or k == 0:
        return chance < 1 and k > 0
    share = k / n
    divergence = share * np.log(share / chance) + (1 - share) * np.log((1 - share) / (1 - chance))
    tests = np.log(n) * (len(primitive.unknowns) + 1)
    return bool(share > chance and n * divergence > tests)


def second_plane(
    primitive: Primitive, subset, estimate: Estimate, cloud: Cloud, rng: np.random.Generator
) -> list[str]:
    """A warning with both planes' figures when the points outside the first hold another that is about as large."""
    from .minimal import hypotheses
    from .scoring_cpu import msac_costs

    distance = np.abs(signed(primitive, subset.points, estimate.frame))
    first = int((distance <= estimate.cut).sum())
    rest = subset.points[distance > 2 * estimate.cut]
    if len(rest) < _AS_LARGE * first or first < 10:
        return []
    found = hypotheses(primitive, rest[rng.integers(0, len(rest), (256, 3))], None)
    if not len(found.origins):
        return []
    wide = 2 * estimate.cut  # three noisy points rarely span the best plane
    costs = msac_costs(primitive, np.ascontiguousarray(rest.T), found, wide)
    best = int(np.argmin(costs))
    height = (rest - found.origins[best]) @ found.axes[best]
    second = int((np.abs(height) <= wide).sum())
    if second < _AS_LARGE * first:
        return []
    angle = np.degrees(np.arccos(min(1.0, abs(float(found.axes[best] @ estimate.frame.axis)))))
    where = np.median(rest[np.abs(height) <= wide], axis=0)
    apart = (where - estimate.frame.origin) @ estimate.frame.axis
    normal = np.round(found.axes[best], 4).tolist()
    return [
        f"ambiguous: a second plane holds {second / max(first, 1):.0%} of the first one's points, at {apart:+.4g} {cloud.unit or ''} "
        f"along its normal and {angle:.1f} deg to it, through {np.round(where + cloud.origin, 3).tolist()} with normal {normal}; "
        "choose a region of interest to say which is meant"
    ]
