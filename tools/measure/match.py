"""`match_holes`: how one part goes onto another: face on face, centred, rolled until holes meet bolts; and whether they will enter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fieldstone.core.errors import UserError

from .errors import NotMeasurable
from .match_assembly import Assembly, Clearances, assemble, clearances
from .match_candidates import Candidate, alike, candidates
from .match_pattern import Pattern, pattern_of
from .match_roll import Pose2, least_squares_pose, minimax_pose
from .result import Measurement

__all__ = ["CENTRINGS", "OBJECTIVES", "match_holes"]

OBJECTIVES = ("least-squares", "minimax")
CENTRINGS = ("pattern", "bore")


def match_holes(
    fixed: Measurement | Sequence[Measurement],  # the part that stays; its coordinates are the answer's
    moving: Measurement | Sequence[Measurement],  # the part that is brought to it
    *,
    objective: str = "least-squares",
    centring: str = "pattern",  # or "bore": the bores' centres coincide, only the roll is free
    same_way: bool = False,  # the faces look the same way; else they meet
    bolt_diameter: float | None = None,  # of the bolts through two holes; studs bring their own
    key: tuple[int, int] | None = None,  # hole of the fixed, hole of the moving part that belong together
    threads: tuple[Measurement, Measurement]
    | None = None,  # of fixed and moving part, whose starts must meet
    near_deg: float | None = None,  # the roll is the candidate nearest to this
    confidence: float = 0.95,
    trials: int = 20_000,
    robot_sigma: tuple[float, float] = (0.0, 0.0),  # of its shift (each way) and of its roll in degrees
    rng: np.random.Generator | None = None,
    seed: int | None = None,
) -> Measurement:
    """Matches two measured parts; each is a result of `find_holes` or `measure_flange`, or a plane with circles, cylinders or threads.

    The pose takes the moving part's coordinates to the fixed part's: x' = R x + `translation`, R turning by `rotation_vector_deg` about
    its own direction. If both parts were measured in one frame, it is also what a robot holding the moving part has to do in that frame.
    Its six numbers come from face contact (3), centring (2) and roll (1). Parameters besides: `roll_deg` (in the face, between the x axes of
    both patterns' frames, `extras`), `gap` before contact, `pairs` with each mismatch and clearance, `clearance_min`, `bottleneck`,
    `roll_play_deg` [least, most] from this pose, `assembly_probability` (Monte Carlo from all covariances and the robot's), `fold`, how many rolls
    fit alike, and `candidates`, all of them.

    The verdict in `extras` is "assembles", "does not", "undecided" at the confidence, or None where there are no diameters to judge by.

    Raises `NotMeasurable` where the patterns do not belong together, `UserError` for arguments that make no sense.
    """
    _check(objective, centring, confidence, bolt_diameter, robot_sigma)
    if rng is None:
        seed = 0 if seed is None else seed
        rng = np.random.default_rng(seed)
    first = fixed if isinstance(fixed, Measurement) else next(iter(fixed))
    unit = first.unit
    a = pattern_of(fixed, unit=unit, thread=threads and threads[0], what="the fixed part")
    b = pattern_of(moving, unit=unit, thread=threads and threads[1], what="the moving part")
    facing = b if same_way else _turned(b)
    radius = float(max(np.median(a.radii), np.median(b.radii)))
    found = candidates(facing.places, a.places, b.place_variance(), a.place_variance(), unit or "", radius)
    best = found[0]
    equal = [candidate for candidate in found if alike(best, candidate)]
    chosen, how, warnings = _resolved(equal, found, a, facing, key, threads is not None, near_deg, same_way)
    pose = _pose(chosen, a, facing, objective, centring, bolt_diameter)
    assembly = assemble(pose, chosen, a, facing, centring)
    spaces = clearances(pose, chosen, a, facing, assembly, bolt_diameter, trials, robot_sigma, rng)
    warnings += _warnings(a, b, spaces, unit)
    return _measurement(
        first, unit, a, facing, pose, chosen, equal, how, assembly, spaces, warnings, seed, objective, centring, confidence
    )  # fmt: skip


def _check(objective, centring, confidence, bolt_diameter, robot_sigma) -> None:
    if objective not in OBJECTIVES:
        raise UserError(f"objective {objective!r}: one of {', '.join(OBJECTIVES)}")
    if centring not in CENTRINGS:
        raise UserError(f"centring {centring!r}: one of {', '.join(CENTRINGS)}")
    if not 0.5 < confidence < 1:
        raise UserError(f"confidence {confidence:g}: give a number above 0.5 and below 1")
    if bolt_diameter is not None and not bolt_diameter > 0:
        raise UserError(f"bolt diameter {bolt_diameter:g}: give a number above 0")
    if min(robot_sigma) < 0:
        raise UserError(f"robot's standard deviations {robot_sigma}: give numbers of at least 0")


def _turned(pattern: Pattern) -> Pattern:
    """The pattern as the other part's face sees it: normal reversed, x kept, y reversed."""
    from dataclasses import replace

    flip = np.array([1.0, -1.0])
    n = len(pattern)
    signs = np.concatenate([np.tile(flip, n), np.ones(n)])
    plane_signs = np.array(
        [-1.0, -1.0, 1.0]
    )  # height and tilt along x reverse; along y both axis and normal do
    return replace(
        pattern,
        axes=pattern.axes * np.array([[1.0], [-1.0], [-1.0]]),
        plane_covariance=pattern.plane_covariance * np.outer(plane_signs, plane_signs),
        places=pattern.places * flip,
        covariance=pattern.covariance * np.outer(signs, signs),
        bore=None if pattern.bore is None else pattern.bore * flip,
        bore_covariance=None if pattern.bore is None else pattern.bore_covariance * np.outer(flip, flip),
        start=None if pattern.start is None else pattern.start * flip,
    )


def _resolved(
    equal: list[Candidate],
    found: list[Candidate],
    a: Pattern,
    b: Pattern,
    key,
    by_thread: bool,
    near_deg,
    same_way,
) -> tuple[Candidate, str, list[str]]:
    """The candidate meant, how it was told from the others, and a warning where it was not."""
    if key is not None:
        return _by_key(found, a, b, key), f"key: holes[{key[0]}] meets holes[{key[1]}]", []
    if by_thread or (a.start is not None and b.start is not None):
        return _by_thread(equal, a, b)
    if near_deg is not None:
        turns = [abs((np.degrees(c.pose.roll) - near_deg + 180) % 360 - 180) for c in equal]
        return equal[int(np.argmin(turns))], f"nearest to {near_deg:g} deg", []
    if len(equal) == 1:
        return equal[0], "the pattern itself", []
    rolls = np.sort(np.degrees([c.pose.roll for c in equal]) % 360)
    step = float(np.median(np.diff(rolls)))
    return (
        equal[0],
        "not resolved",
        [
            f"{len(equal)}-fold roll ambiguity: {len(equal)} rolls about {step:.4g} deg apart fit alike (rms {equal[0].rms:.3g} to "
            f"{max(c.rms for c in equal):.3g}); the one reported fits best, which is chance: name a key hole, the threads' start, or a roll"
        ],
    )


def _by_key(found: list[Candidate], a: Pattern, b: Pattern, key: tuple[int, int]) -> Candidate:
    try:
        i, j = (pattern.names.index(f"holes[{k}]") for pattern, k in zip((a, b), key))
    except ValueError:
        raise UserError(
            f"key {key[0]}:{key[1]}: the fixed part has {', '.join(a.names)}, the moving one {', '.join(b.names)}"
        ) from None
    fitting = [c for c in found if any(m == j and f == i for m, f in zip(c.moving, c.fixed))]
    if not fitting:
        raise NotMeasurable(
            f"key {key[0]}:{key[1]}: no roll that brings the patterns together pairs these two holes; check the key"
        )
    return fitting[0]


def _by_thread(equal: list[Candidate], a: Pattern, b: Pattern) -> tuple[Candidate, str, list[str]]:
    if a.start is None or b.start is None:
        raise UserError("the threads' start tells the roll only if both parts bring a thread")
    turn = np.gcd.reduce([round(a.start_turn_deg * 1000), round(b.start_turn_deg * 1000)]) / 1000
    want = np.degrees(np.arctan2(a.start[1], a.start[0]))
    have = np.degrees(np.arctan2(b.start[1], b.start[0]))
    off = np.array([abs((np.degrees(c.pose.roll) + have - want + turn / 2) % turn - turn / 2) for c in equal])
    order = np.argsort(off)
    sd = float(np.hypot(np.nan_to_num(a.start_sd_deg), np.nan_to_num(b.start_sd_deg)))
    warnings = []
    if len(equal) > 1 and off[order[1]] - off[order[0]] < 3 * sd:
        warnings.append(
            f"the threads' starts do not tell the roll: two candidates miss by {off[order[0]]:.3g} and {off[order[1]]:.3g} deg, known to {sd:.2g} deg"
        )
    return equal[order[0]], f"the threads' starts, which miss by {off[order[0]]:.3g} deg", warnings


def _pose(
    chosen: Candidate, a: Pattern, b: Pattern, objective: str, centring: str, bolt_diameter: float | None
) -> Pose2:
    moving, fixed = b.places[chosen.moving], a.places[chosen.fixed]
    if centring == "bore":
        if a.bore is None or b.bore is None:
            raise UserError("centring on the bore: both parts must have one (measure flange)")
        if objective == "minimax":
            raise UserError("centring on the bore leaves the roll only; use objective least-squares with it")
        weights = 1 / np.maximum(b.place_variance()[chosen.moving] + a.place_variance()[chosen.fixed], 1e-18)
        return least_squares_pose(moving, fixed, weights, shift=(b.bore, a.bore))
    if objective == "minimax":
        from .match_assembly import allowed_offsets

        allowed = allowed_offsets(chosen, a, b, bolt_diameter)
        return minimax_pose(chosen.pose, moving, fixed, allowed)
    return chosen.pose


def _warnings(a: Pattern, b: Pattern, spaces: Clearances, unit: str | None) -> list[str]:
    out = []
    for what, pattern in (("fixed", a), ("moving", b)):
        if pattern.left_out:
            out.append(
                f"{pattern.left_out} slots, notches or openings of the {what} part take no part in the match"
            )
    if unit is None:
        out.append("unit not known: there is no verdict; measure the parts again with --unit")
    if spaces.minimum is None:
        out.append("no clearances: both parts have holes; give the bolts' diameter")
    return out


def _measurement(
    first, unit, a, b, pose, chosen, equal, how, assembly: Assembly, spaces: Clearances, warnings, seed, objective, centring, confidence
) -> Measurement:  # fmt: skip
    pairs = []
    for k, (m, f) in enumerate(zip(chosen.moving, chosen.fixed)):
        pair = {"fixed": a.names[f], "moving": b.names[m], "mismatch": float(spaces.mismatch[k])}
        if spaces.clearance is not None:
            pair |= {"clearance": float(spaces.clearance[k]), "clearance_sd": float(spaces.clearance_sd[k])}
        pairs.append(pair)
    verdict = None
    if spaces.probability is not None and unit is not None:
        p = spaces.probability
        verdict = "assembles" if p >= confidence else "does not" if p <= 1 - confidence else "undecided"
    parameters = {
        "translation": assembly.translation.tolist(),
        "rotation_vector_deg": assembly.rotation_vector_deg.tolist(),
        "roll_deg": float(np.degrees(pose.roll)),
        "gap_least": assembly.gap[0],
        "gap_most": assembly.gap[1],
        "face_angle_deg": assembly.face_angle_deg,
        "mismatch_rms": float(np.sqrt((spaces.mismatch**2).mean())),
        "mismatch_most": float(spaces.mismatch.max()),
        "bore_offset": assembly.bore_offset,
        "clearance_min": spaces.minimum,
        "bottleneck": None if spaces.bottleneck is None else a.names[chosen.fixed[spaces.bottleneck]],
        "roll_play_deg": None if spaces.roll_play is None else np.degrees(spaces.roll_play).tolist(),
        "assembly_probability": spaces.probability,
        "largest_bolt": spaces.largest_bolt,
        "fold": len(equal),
        "pairs": pairs,
        "candidates": [
            {"roll_deg": float(np.degrees(c.pose.roll)), "rms": c.rms, "pairs": len(c.moving)} for c in equal
        ],
    }
    return Measurement(
        kind="match",
        unit=unit,
        parameters=parameters,
        covariance=assembly.covariance,
        covariance_names=assembly.names,
        rms=parameters["mismatch_rms"],
        n_used=len(chosen.moving),
        n_total=max(len(a), len(b)),
        warnings=warnings,
        input=dict(first.input),
        seed=seed,
        extras={
            "frame": "coordinates of the fixed part's measurement: x' = R x + translation for points x of the moving part",
            "matrix": assembly.matrix,
            "about": assembly.about,
            "translation_of_about": assembly.translation_of_about,
            "objective": objective,
            "centring": centring,
            "roll_resolved_by": how,
            "verdict": verdict,
            "confidence": confidence,
            "roll_frames": {"fixed": a.axes, "moving": b.axes},
            "fixed": {"places": a.places, "radii": a.radii, "names": a.names},
            "moved": {"places": pose(b.places), "radii": b.radii, "names": b.names},
            "bolt_diameter": spaces.bolt_diameter,
        },
    )
