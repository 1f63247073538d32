"""A fit against the primitive it should have found: the error of each parameter, and whether the covariance admits it."""

from __future__ import annotations

import numpy as np

from .frame import Frame
from .primitives import PRIMITIVES
from .result import Measurement

__all__ = ["angle_error", "mahalanobis", "parameter_errors"]

_SLIDING = {"line": "point", "plane": "point", "cylinder": "axis_point", "cone": "axis_point"}
_DIRECTIONS = ("direction", "normal", "axis_direction")


def parameter_errors(measured: Measurement, truth: Frame) -> np.ndarray:
    """(k,) found less true, by the rows of the covariance.

    A point that may slide along its axis or plane is compared with the true place next to it, directions by their sense.
    """
    name = measured.kind
    direction = next((measured[n] for n in _DIRECTIONS if n in measured.parameters), None)
    axis, origin, sizes = truth.axis, truth.origin, truth.sizes
    if direction is not None and direction @ axis < 0 and name != "cone":
        axis = -axis
    if name in _SLIDING:
        place = measured[_SLIDING[name]]
        if name == "plane":
            along = ((origin - place) @ axis) / (direction @ axis)
            origin = place + along * direction
        else:
            step = ((place - origin) @ direction) / (axis @ direction)
            origin = origin + step * axis
            if name == "cone":
                sizes = np.array([sizes[0] + step * np.sin(sizes[1]), sizes[1]])
    values, _ = PRIMITIVES[name].parameters(Frame.from_axis(origin, axis, sizes))
    return np.concatenate([np.atleast_1d(measured[key] - np.asarray(value)) for key, value in values.items()])


def mahalanobis(measured: Measurement, truth: Frame) -> tuple[float, int]:
    """(squared distance of the truth in the measurement's covariance, its rank): chi-square distributed with that many degrees of
    freedom where the covariance is right.
    """
    error = parameter_errors(measured, truth)
    scale = np.sqrt(np.maximum(np.diag(measured.covariance), 1e-300))
    scale = np.where(scale > 1e-150, scale, 1.0)
    values, vectors = np.linalg.eigh(measured.covariance / np.outer(scale, scale))
    rank = len(PRIMITIVES[measured.kind].unknowns)
    part = vectors[:, -rank:].T @ (error / scale)
    return float((part**2 / values[-rank:]).sum()), rank


def angle_error(measured: Measurement, truth: Frame) -> float:
    """Radians between the found direction and the true one, whatever their senses."""
    direction = next(measured[n] for n in _DIRECTIONS if n in measured.parameters)
    return float(np.linalg.norm(np.cross(direction, truth.axis)))
