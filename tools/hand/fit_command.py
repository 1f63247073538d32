"""What `hand fit` does: read, check, fit, one shape for two hands, write results and the report."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ...fields.articulated.built_in import BUILT_IN
from ...fields.articulated.model_data import ModelData
from .fitting.fit import Fit, Settings
from .fitting.observation_fit import Fitted, check_side, common_shape, fit_observation
from .fitting.two_hands import penetration
from .models import model_data
from .observed.observation import Observation
from .observed.recognise import read_observations
from .result import HandResult, Uncertainty, write_result

__all__ = ["fit_command", "result_of", "settings_of"]

_LARGEST_COVARIANCE = 16 << 20
"""Numbers: 64 MB as float32."""
_JOLT_ANGLE, _JOLT_WAY = 90.0, 1.8
"""Radians and metres per second squared: what a hand's joints and wrist do within one standard deviation, when frames are smoothed."""


def fit_command(args: argparse.Namespace, out: Path) -> Iterator[str]:
    """Lines to print. Raises UserError for whatever does not fit together, before anything is written."""
    rng = np.random.default_rng(args.seed)
    seen = read_observations(
        args.data,
        unit=args.unit,
        joint_set=args.joints,
        sample=args.sample,
        instant=args.instant,
        complete=not args.partial,
        rng=rng,
    )
    jobs = []
    for own in seen:
        name, data = _model_for(args.model, own, len(seen) > 1)
        settings = settings_of(args, own)
        if args.side_check == "on":
            check_side(data, own, tips=args.tips)
        elif own.side not in (None, data.side):
            own = replace(own, side=None)
        jobs.append((name, data, own, settings))
    fitted = [
        fit_observation(data, own, settings, tips=args.tips, rng=rng) for _, data, own, settings in jobs
    ]
    if len(jobs) == 2 and not args.own_shape and args.shape is None:
        shape = common_shape([f.fit for f in fitted], jobs[0][3])
        fitted = [
            fit_observation(data, own, replace(settings, shape=shape), tips=args.tips, rng=rng)
            for _, data, own, settings in jobs
        ]
    if len(jobs) == 2 and all(data.layout == "mano" for _, data, _, _ in jobs):
        through = penetration(tuple((job[1], found.fit.state) for job, found in zip(jobs, fitted)))
        if through is not None:
            for found in fitted:
                found.fit.notes.append(str(through))
    for (name, data, own, _), found in zip(jobs, fitted):
        path = _beside(out, data.side, len(jobs) > 1)
        result = result_of(name, data, own, found, path)
        write_result(path, result)
        yield f"{path}: {', '.join(own.kinds())}; {data.layout} {data.side}"
        yield from (f"note: {note}" for note in own.notes)
        yield from found.fit.report(found.scale, found.unit)
        if args.report:
            from .fit_report import write_report

            page = _beside(Path(args.report), data.side, len(jobs) > 1)
            write_report(page, data, own, found, result)
            yield f"{page}"
        if args.residuals:
            from .residual_pictures import write_residuals

            page = _beside(Path(args.residuals), data.side, len(jobs) > 1)
            yield f"{page}: darkest at {write_residuals(page, data, own, found):g} {found.unit}"


def _beside(path: Path, side: str, two: bool) -> Path:
    return path.with_stem(f"{path.stem}_{side}") if two else path


def settings_of(args: argparse.Namespace, seen: Observation) -> Settings:
    """The command's arguments as settings for this observation."""
    pixels = seen.points is None and seen.scans is None
    smooth = args.smooth == "on" or (args.smooth == "auto" and seen.frames_per_second is not None)
    square = (seen.frames_per_second or 30.0) ** 2
    free = 0.0 if args.no_limits else 1.0
    return Settings(
        sigma=None if args.sigma is None else args.sigma / (1.0 if pixels else 1000.0),
        shapes=args.shapes,
        shape=None if args.shape is None else np.array(args.shape),
        pose_weight=args.prior,
        shape_weight=args.prior,
        limit_weight=free,
        contact_weight=free,
        smooth_angle=min(0.3, _JOLT_ANGLE / square) if smooth and len(seen) > 2 else None,
        smooth_translation=min(0.05, _JOLT_WAY / square),
        components=args.components,
    )


def result_of(name: str, data: ModelData, seen: Observation, found: Fitted, path: Path) -> HandResult:
    """The fit as a result, with how well it is determined and where the cameras stood."""
    fit = found.fit
    pose = np.concatenate((_log(fit.state.root)[:, None], fit.state.angles), 1)
    info: dict = {
        "fitted_to": seen.kinds(),
        "data": os.path.basename(seen.where),
        "unit": found.unit,
        "noise": fit.sigma * found.scale,
        "lines": fit.report(found.scale, found.unit),
        "unseen": fit.observability.unseen(0),
    }
    if seen.cameras is not None:
        info["cameras"] = seen.cameras.to_json()
        info["photos"] = [os.path.relpath(Path(p).resolve(), path.parent.resolve()) for p in seen.photos]
    return HandResult(
        name,
        fit.state.shape,
        pose,
        fit.state.translation,
        seen.frames_per_second or 30.0,
        data.sha256(),
        info,
        _uncertainty(fit),
    )


def _uncertainty(fit: Fit) -> Uncertainty:
    own = fit.observability
    variance = np.einsum("bii->bi", own.covariance)
    return Uncertainty(
        own.names,
        np.sqrt(np.maximum(variance, 0)),
        own.share,
        own.covariance if own.covariance.size <= _LARGEST_COVARIANCE else None,
    )


def _model_for(name: str, seen: Observation, two: bool) -> tuple[str, ModelData]:
    """The named model; of the built-in hands the one of the data's side, of two hands in one file the mirrored one of a file is refused."""
    if name in BUILT_IN and seen.side is not None:
        stem = name.removesuffix("-left")
        if stem.endswith("hand") and (two or name == stem):
            name = stem + ("-left" if seen.side == "left" else "")
    elif two and model_data(name).layout == "mano" and model_data(name).side != seen.side:
        raise UserError(
            f"--model {name}: the data has two hands, the model one; use a built-in hand, or split the data and mirror the model with "
            f"fieldstone hand convert {name} --mirror --out OTHER.npz"
        )
    return name, model_data(name)


def _log(rotations: np.ndarray) -> np.ndarray:
    from .fitting.so3 import log

    return log(rotations)
