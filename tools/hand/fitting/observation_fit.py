"""One observation, whatever it consists of, fitted; and one person's shape from several fits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fieldstone.core.errors import UserError

from ....fields.articulated.model_data import ModelData
from ..observed.observation import Observation
from .fit import Fit, Settings, fit_keypoints
from .handedness import Handedness, handedness
from .keypoints import Keypoints, keypoints_of
from .pixels import fit_pixels, pixel_term
from .scan import fit_scans
from .silhouette import fit_silhouettes
from .state import State
from .terms import Keypoints3d, Term

__all__ = ["Fitted", "check_side", "common_shape", "fit_observation"]


@dataclass(frozen=True)
class Fitted:
    """A fit and what its numbers are counted in."""

    fit: Fit
    kind: str
    """points, pixels, scans, depth or masks: the last stage's data."""
    unit: str
    """mm or px."""
    scale: float
    """Units per number in the fit: 1000 for mm."""


def fit_observation(
    data: ModelData,
    seen: Observation,
    settings: Settings | None = None,
    *,
    tips: str | None = None,
    rng: np.random.Generator,
) -> Fitted:
    """Keypoints first, if there are any; then surfaces, then masks, each from where the one before ended and beside it."""
    settings = settings or Settings()
    fit, kind, keypoints = None, "", None
    if seen.joint_set is not None:
        keypoints = keypoints_of(data, seen.joint_set, side=seen.side, tips=tips)
    if seen.pixels is not None:
        fit, kind = (
            fit_pixels(data, keypoints, seen.cameras, seen.pixels, settings, confidence=seen.confidence),
            "pixels",
        )
    elif seen.points is not None:
        fit, kind = (
            fit_keypoints(data, keypoints, seen.points, settings, confidence=seen.confidence),
            "points",
        )
    if seen.scans is not None:
        more = _beside(data, seen, tips, slice(None), fit)
        start = None if fit is None else fit.state
        fit = fit_scans(
            data,
            seen.scans,
            replace(settings, sigma=None) if start is not None else settings,
            start=start,
            more=more,
            rng=rng,
        )
        kind = "scans" if seen.scans[0].complete else "depth"
    if seen.masks is not None:
        fit, kind = _masks(data, seen, settings, tips, fit, rng), "masks"
    pixels = kind in ("pixels", "masks")
    return Fitted(fit, kind, "px" if pixels else "mm", 1.0 if pixels else 1000.0)


def check_side(
    data: ModelData, seen: Observation, *, settings: Settings | None = None, tips: str | None = None
) -> Handedness | None:
    """Raises UserError where the data says, or looks like, the other hand; None where it cannot tell."""
    if data.layout != "mano":
        return None
    other = "left" if data.side == "right" else "right"
    remedy = f"use the {other} model (--model hand{'-left' if other == 'left' else ''}, or fieldstone hand convert MODEL --mirror --out FILE.npz)"
    if seen.side == other:
        raise UserError(f"{seen.where}: a {other} hand, but the model is a {data.side} one; {remedy}")
    keypoints = None if seen.joint_set is None else keypoints_of(data, seen.joint_set, tips=tips)
    found = handedness(
        data,
        keypoints=keypoints,
        points=seen.points,
        pixels=seen.pixels,
        cameras=seen.cameras,
        scans=seen.scans,
        settings=settings,
    )
    if found is not None and found.wrong:
        says = f"says {seen.side}" if seen.side else f"the model is a {data.side} hand"
        raise UserError(
            f"{seen.where}: looks like a {other} hand ({found}), but {says}: left and right mixed up, or an axis flipped? "
            f"{remedy}, or --side-check off to fit it all the same"
        )
    return found


def common_shape(fits: list[Fit], settings: Settings) -> np.ndarray:
    """(s,) the shape that several fits of one person agree on: means weighted by information, the prior counted once."""
    s = len(fits[0].state.shape)
    prior = settings.shape_weight * np.eye(s)
    total, weighted = prior.copy(), np.zeros(s)
    for fit in fits:
        own = np.linalg.inv(fit.observability.covariance[0, :s, :s] + 1e-9 * np.eye(s))
        # fits without a shape prior, and those whose every frame saw it, may be a little below the prior's information by rounding
        total += own - prior
        weighted += own @ fit.state.shape
    return np.linalg.solve(total, weighted)


def _beside(
    data: ModelData, seen: Observation, tips: str | None, frames: slice, fit: Fit | None
) -> tuple[Term, ...]:
    """Keypoints as a term on the posing of all vertices, with the noise their own fit found."""
    if seen.joint_set is None or fit is None:
        return ()
    own = keypoints_of(data, seen.joint_set, side=seen.side, tips=tips)
    mixture = _on_all_vertices(data, own)
    confidence = None if seen.confidence is None else seen.confidence[frames]
    if seen.pixels is not None:
        term: Term = pixel_term(seen.cameras, mixture, seen.pixels[frames], confidence)
        term.sigma = max(fit.sigma, 1.0)
    else:
        points = seen.points[frames]
        term = Keypoints3d(
            sigma=max(fit.sigma, 0.002),
            targets=points,
            mixture=mixture,
            confidence=np.ones(points.shape[:2]) if confidence is None else confidence,
        )
    term.scale = 3.5
    return (term,)


def _masks(
    data: ModelData,
    seen: Observation,
    settings: Settings,
    tips: str | None,
    fit: Fit | None,
    rng: np.random.Generator,
) -> Fit:
    """Frame by frame; of several frames the shape is settled first, then every frame is fitted with it."""
    chosen, fits = settings, []
    for _ in range(1 if settings.shape is not None or len(seen) == 1 else 2):
        fits = []
        for frame, masks in enumerate(seen.masks):
            one = slice(frame, frame + 1)
            start = None if fit is None else fit.state.frames(one)
            more = _beside(data, seen, tips, one, fit)
            fits.append(fit_silhouettes(data, masks, seen.cameras, chosen, start=start, more=more, rng=rng))
        chosen = replace(settings, shape=common_shape(fits, settings))
    return fits[0] if len(fits) == 1 else _joined(fits)


def _joined(fits: list[Fit]) -> Fit:
    """Frames of fits that share their shape, one after the other."""
    width = max(fit.distances.shape[1] for fit in fits)

    def padded(rows: np.ndarray, fill: float) -> np.ndarray:
        return np.pad(rows, ((0, 0), (0, width - rows.shape[1])), constant_values=fill)

    first = fits[0].observability
    return replace(
        fits[0],
        state=State(
            fits[0].state.shape,
            *(
                np.concatenate([getattr(fit.state, key) for fit in fits])
                for key in ("root", "angles", "translation")
            ),
        ),
        sigma=float(np.sqrt(np.mean([fit.sigma**2 for fit in fits]))),
        distances=np.concatenate([padded(fit.distances, np.nan) for fit in fits]),
        inliers=np.concatenate([padded(fit.inliers, False) for fit in fits]),
        cost=sum(fit.cost for fit in fits),
        iterations=sum(fit.iterations for fit in fits),
        observability=replace(
            first,
            covariance=np.concatenate([fit.observability.covariance for fit in fits]),
            scatter=np.concatenate([fit.observability.scatter for fit in fits]),
            share=np.concatenate([fit.observability.share for fit in fits]),
            effective=sum(fit.observability.effective for fit in fits),
        ),
        notes=[f"frame {i}: {note}" for i, fit in enumerate(fits) for note in fit.notes],
    )


def _on_all_vertices(data: ModelData, keypoints: Keypoints) -> np.ndarray:
    """(m, v + j) of the mixture over the chosen vertices and all joints."""
    v, t = len(data.template), len(keypoints.vertices)
    mixture = np.zeros((len(keypoints.mixture), v + len(data.parents)))
    for column, vertex in enumerate(keypoints.vertices):
        mixture[:, vertex] += keypoints.mixture[:, column]
    mixture[:, v:] = keypoints.mixture[:, t:]
    return mixture
