"""Single fingers put elsewhere: the moves that closest-point steps cannot make, and what a scan leaves open about fingers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from scipy.cluster.vq import kmeans2

from ....fields.articulated.model_data import ModelData
from .misfit import Misfit
from .priors import pose_prior
from .state import State

__all__ = ["Fingers"]

_GAIN = 2e-5
"""Metres by which another pose must explain the scan better to be taken."""
_HOPE = 0.004
"""Metres by which a finger put elsewhere may at first explain the scan worse and still be tried."""
_SAME = 1e-4
"""Metres of misfit that tell two poses apart: what independent points of a few tenths of a millimetre average to."""
_ELSEWHERE = 0.015
"""Metres: a fingertip that may as well be so far away is not known."""


class Fingers:
    """A hand's fingers and how each is usually bent."""

    def __init__(self, data: ModelData, count: int = 10) -> None:
        prior = pose_prior(data)
        self._mean, information = prior.mean, prior.root.T @ prior.root
        self.joints: dict[str, np.ndarray] = {}
        """Finger -> its joints, from the knuckle on. Empty where the model is not one hand."""
        self._poses: dict[str, np.ndarray] = {}
        self._conditional: dict[str, np.ndarray] = {}
        self.tips: dict[str, int] = {}
        """Finger -> a vertex at its tip."""
        if data.layout != "mano":
            return
        for joint, name in enumerate(data.joint_names):
            if name[-1] == "1" and joint:
                self.joints[name[:-1]] = joint + np.arange(3)
        recorded = (
            data.pose_mean + data.pose_coefficients @ data.pose_components
            if len(data.pose_coefficients)
            else None
        )
        owner = data.weights.argmax(1)
        for finger, joints in self.joints.items():
            columns = (3 * (joints - 1)[:, None] + np.arange(3)).reshape(-1)
            poses = [self._mean[columns], np.zeros(9)]
            if recorded is not None and len(recorded) >= 4 * count:
                centres, label = kmeans2(
                    recorded[:, columns], count, minit="++", rng=np.random.default_rng(0)
                )
                poses += [centre for i, centre in enumerate(centres) if (label == i).any()]
            self._poses[finger] = np.array(poses)
            rest = np.setdiff1d(np.arange(len(self._mean)), columns)
            # the usual pose of this finger given the others': the conditional mean of the prior
            self._conditional[finger] = -np.linalg.solve(
                information[np.ix_(columns, columns)], information[np.ix_(columns, rest)]
            )
            tips = [int(v) for v in data.fingertips if owner[v] == joints[2]]
            last = np.flatnonzero(owner == joints[2])
            reach = np.linalg.norm(data.template[last] - data.joints[joints[2]], axis=1)
            self.tips[finger] = tips[0] if tips else int(last[reach.argmax()])

    def moves(self, state: State, finger: str) -> Iterator[State]:
        """States of one frame that differ in one finger."""
        flat = state.angles.reshape(-1)
        columns = (3 * (self.joints[finger] - 1)[:, None] + np.arange(3)).reshape(-1)
        rest = np.setdiff1d(np.arange(len(flat)), columns)
        usual = self._mean[columns] + self._conditional[finger] @ (flat[rest] - self._mean[rest])
        for pose in (usual, *self._poses[finger]):
            angles = flat.copy()
            angles[columns] = pose
            yield replace(state, angles=angles.reshape(state.angles.shape))

    def exchanged(self, state: State) -> Iterator[State]:
        """States in which two neighbouring fingers bend as the other did, or all four as their neighbour did."""
        order = [f for f in ("index", "middle", "ring", "pinky") if f in self.joints]
        changes = [{a: b, b: a} for a, b in itertools.pairwise(order)]
        changes += [dict(zip(order[1:], order)), dict(itertools.pairwise(order))]
        for change in changes:
            angles = state.angles.copy()
            for finger, like in change.items():
                angles[0, self.joints[finger] - 1] = state.angles[0, self.joints[like] - 1]
            yield replace(state, angles=angles)

    def searched(
        self,
        state: State,
        misfit: Misfit,
        settle: Callable[[State], State],  # a few steps onto the scan
        *,
        sweeps: int = 2,
        tried: int = 2,
    ) -> tuple[float, State]:
        """The best of what putting one finger after the other elsewhere leads to."""
        best = misfit(state)
        for _ in range(sweeps):
            before = best
            for finger in (*self.joints, None):
                moves = self.exchanged(state) if finger is None else self.moves(state, finger)
                found = sorted(((misfit(move), i, move) for i, move in enumerate(moves)), key=lambda m: m[:2])
                for score, _, move in found[:tried]:
                    if score > best + _HOPE:
                        break
                    settled = settle(move)
                    end = misfit(settled)
                    if min(score, end) < best - _GAIN:
                        best, state = (end, settled) if end < score else (score, move)
            if before - best < _GAIN:
                break
        return best, state

    def undecided(self, state: State, misfit: Misfit) -> dict[str, float]:
        """Finger -> metres by which its tip may be elsewhere while the surface is explained as well; fingers that are known are absent."""
        posing = misfit.posing

        def vertices(one: State) -> np.ndarray:
            points = posing(one.shape, one.rotations(), one.translation, jacobian=False).points
            return points[0, : len(posing.vertices)]

        here = vertices(state)
        allowed, found = misfit.surface(here) + _SAME, {}
        for finger in self.joints:
            for move in self.moves(state, finger):
                there = vertices(move)
                apart = float(np.linalg.norm(there[self.tips[finger]] - here[self.tips[finger]]))
                if apart > max(_ELSEWHERE, found.get(finger, 0.0)) and misfit.surface(there) < allowed:
                    found[finger] = apart
        return found
