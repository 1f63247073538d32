"""A plan run on a part: features fitted, characteristics evaluated, each judged by ISO 14253-1 with its uncertainty."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fieldstone.core.errors import UserError

from . import fit
from .align import align
from .cloud import Cloud
from .decision import ACCEPT, NOT_MEASURABLE, REJECT, UNDECIDED, decide
from .errors import NotMeasurable
from .feature import Feature, feature_of
from .finding import Finding
from .form import cylindricity, flatness, roundness, straightness
from .io import read
from .location import position
from .orientation import orientation
from .plan import Characteristic, FeaturePlan, Plan
from .profile import nominal_mesh, nominal_surface, profile
from .result import Measurement
from .roi import in_ball, in_box
from .runout import runout
from .units import suggestion

__all__ = ["evaluate", "run_plan"]

_ANGLES = {"parallelism": 0.0, "perpendicularity": 90.0}
_WORST = (REJECT, NOT_MEASURABLE, UNDECIDED, ACCEPT)


def run_plan(cloud: Cloud, plan: Plan, seed: int = 0) -> Measurement:
    """Measures the part. Kind "tolerances"; parameters: `verdict`, `counts` by verdict, `characteristics`, a list of {name, kind,
    features, datums, value, uncertainty (k = 1), expanded, bias, bonus, lower, upper, verdict, reason}.

    A feature that cannot be measured makes the characteristics that need it "not measurable", and no others. Raises `UserError`
    where the cloud has no unit, or the plan contradicts itself.
    """
    if cloud.unit is None:
        raise UserError(
            f"{cloud.source or 'the cloud'}: unit not known, so there is no verdict: {suggestion(float(cloud.extent.max()))}; give --unit"
        )
    cloud = cloud.to_unit(plan.unit)
    rng = np.random.default_rng(seed)
    if plan.align is not None:
        cloud, notes = align(cloud, read(plan.align, unit=plan.unit), rng)
        cloud = replace(cloud, warnings=(*cloud.warnings, *notes))
    features: dict[str, Feature | NotMeasurable] = {}
    wanted = [name for c in plan.characteristics for name in (*c.features, *c.datums)]
    for name in dict.fromkeys(wanted):
        try:
            features[name] = _fitted(plan.features[name], cloud, seed, rng)
        except NotMeasurable as error:
            features[name] = error
    rows, deviations = [], []
    for characteristic in plan.characteristics:
        try:
            broken = [features[n] for n in (*characteristic.features, *characteristic.datums)]
            broken = next((f for f in broken if isinstance(f, NotMeasurable)), None)
            if broken is not None:
                raise broken
            findings = evaluate(characteristic, features, plan, rng)
        except NotMeasurable as error:
            rows.append(
                _row(characteristic, characteristic.features)
                | {"verdict": NOT_MEASURABLE, "reason": str(error)}
            )
            deviations.append(np.nan)
            continue
        groups = [(n,) for n in characteristic.features] if len(findings) > 1 else [characteristic.features]
        for names, finding in zip(groups, findings):
            upper = None if characteristic.upper is None else characteristic.upper + finding.bonus
            rows.append(
                _row(characteristic, names) | _judged(finding, characteristic.lower, upper, plan.coverage)
            )
            deviations.append(finding.uncertainty)
    verdicts = [row["verdict"] for row in rows]
    measured = {n: f.measurement for n, f in features.items() if isinstance(f, Feature)}
    sizes = [m.rms for m in measured.values()]
    return Measurement(
        kind="tolerances",
        unit=plan.unit,
        parameters={
            "verdict": next((v for v in _WORST if v in verdicts), ACCEPT),
            "counts": {v: verdicts.count(v) for v in (ACCEPT, REJECT, UNDECIDED, NOT_MEASURABLE)},
            "characteristics": rows,
        },
        covariance=np.diag(np.square(deviations)),
        covariance_names=[f"characteristics[{i}].value" for i in range(len(rows))],
        rms=float(np.sqrt(np.mean(np.square(sizes)))) if sizes else np.nan,
        n_used=sum(m.n_used for m in measured.values()),
        n_total=len(cloud),
        warnings=[
            *cloud.warnings,
            *(f"{n}: {w}" for n, m in measured.items() for w in m.warnings if w not in cloud.warnings),
        ],
        input=cloud.input_record(),
        seed=seed,
        extras={
            "coverage": plan.coverage,
            "datums": plan.letters,
            "features": {n: _summary(f) for n, f in features.items() if isinstance(f, Feature)},
        },
    )


def evaluate(
    characteristic: Characteristic, features: dict[str, Feature], plan: Plan, rng: np.random.Generator
) -> list[Finding]:
    """One finding, or one for each feature of a pattern."""
    kind, options = characteristic.kind, characteristic.options
    chosen = [features[name] for name in characteristic.features]
    datums = [features[name] for name in characteristic.datums]
    feature, smooth = chosen[0], options.get("smooth")
    sections = {"count": options["sections"]} if "sections" in options else {}
    match kind:
        case "flatness":
            return [flatness(feature, smooth)]
        case "cylindricity":
            return [cylindricity(feature, smooth)]
        case "roundness":
            return [roundness(feature, smooth, **sections)]
        case "straightness":
            return [straightness(feature, smooth, **sections)]
        case "parallelism" | "perpendicularity" | "angularity":
            return [orientation(feature, datums, _ANGLES.get(kind, options.get("angle")), rng)]
        case "position" | "coaxiality":
            direction = options.get("direction")
            return position(
                chosen,
                datums if kind == "position" else datums[:1],
                options.get("nominal", [[0.0, 0.0]]),
                rng,
                directions=None if direction is None else np.tile(direction, (len(chosen), 1)),
                material=options.get("material"),
                limits=tuple(options["size"]) if "size" in options else None,
                inner=options.get("inner", True),
            )
        case "circular_runout" | "total_runout":
            return [runout(feature, datums, rng, total=kind == "total_runout", **sections)]
        case "profile":
            return [profile(feature, datums, _nominal(options["nominal"], plan), rng)]
        case "size":
            return [_size(feature, options["norm"])]
    raise UserError(f"{kind} is no characteristic")


def _fitted(planned: FeaturePlan, cloud: Cloud, seed: int, rng: np.random.Generator) -> Feature:
    try:
        part = in_box(cloud, planned.box) if planned.box else cloud
        part = in_ball(part, planned.ball) if planned.ball else part
        measured = getattr(fit, f"fit_{planned.fit}")(part, seed=seed, **planned.options)
    except NotMeasurable as error:
        raise NotMeasurable(f"feature {planned.name}: {error}") from error
    return feature_of(planned.name, measured, part, rng, planned.towards)


def _size(feature: Feature, norm: str) -> Finding:
    """Diameter of the least-squares, smallest circumscribed or largest inscribed element (ISO 14405-1 GG, GN, GX)."""
    if feature.radius is None or feature.kind == "cone":
        raise UserError(f"size of {feature.name}: a {feature.kind} has no diameter")
    if norm == "gauss":
        return Finding(
            2 * feature.radius, 2 * float(np.sqrt(feature.covariance[6, 6])), extras={"norm": norm}
        )
    cloud = Cloud.from_points(feature.points, None)
    options = {"axis": feature.direction} if feature.kind == "circle" else {}
    found = getattr(fit, f"fit_{feature.kind}")(cloud, robust=False, norm=norm, **options)
    return Finding(
        2 * found["radius"],
        2 * found.standard_uncertainty()["radius"],
        extras={"norm": norm, "zone": found.extras["zone"]},
    )


def _nominal(nominal: dict, plan: Plan):
    ((kind, values),) = nominal.items()
    if kind == "mesh":
        from .readers.mesh import triangles

        return nominal_mesh(*triangles(plan.folder / str(values)))
    known = {"point", "direction", "radius", "half_angle_deg"}
    if not isinstance(values, dict) or not set(values) <= known or "point" not in values:
        raise UserError(
            f"profile: nominal {kind}: {values!r:.60}: give point: [x, y, z], and of {', '.join(sorted(known))} what it has"
        )
    try:
        return nominal_surface(
            kind,
            **{
                k: np.asarray(v, np.float64) if k in ("point", "direction") else float(v)
                for k, v in values.items()
            },
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"profile: nominal {kind}: {error}") from error


def _row(characteristic: Characteristic, names: tuple[str, ...]) -> dict:
    several = len(characteristic.features) > 1 and len(names) == 1
    return {
        "name": f"{characteristic.name} [{names[0]}]" if several else characteristic.name,
        "kind": characteristic.kind,
        "features": list(names),
        "datums": list(characteristic.datums),
        "value": None,
        "uncertainty": None,
        "expanded": None,
        "bias": None,
        "bonus": None,
        "lower": characteristic.lower,
        "upper": characteristic.upper,
        "reason": None,
    }


def _judged(finding: Finding, lower: float | None, upper: float | None, coverage: float) -> dict:
    verdict = decide(finding.value, finding.uncertainty, upper, lower, coverage=coverage, bias=finding.bias)
    expanded = coverage * finding.uncertainty
    reason = None
    if verdict == UNDECIDED:
        low = finding.value - finding.bias - expanded
        reason = (
            f"the interval {low if lower is not None else max(low, 0.0):.4g} to {finding.value + expanded:.4g} reaches over a limit: measure "
            "with less noise or more points" + (", or smooth over cells" if finding.bias > expanded else "")
        )
    return {
        "value": finding.value,
        "uncertainty": finding.uncertainty,
        "expanded": expanded,
        "bias": finding.bias,
        "bonus": finding.bonus,
        "upper": upper,
        "verdict": verdict,
        "reason": reason,
        "details": finding.extras,
    }


def _summary(feature: Feature) -> dict:
    m = feature.measurement
    return {"kind": feature.kind, **m.parameters, "rms": m.rms, "n_used": m.n_used, "noise": feature.noise}
