"""What is learned per training image besides the scene: exposure and a small motion of the camera."""

from __future__ import annotations

import torch
from torch import Tensor

from .methods import ParameterGroup

__all__ = ["FrameCorrections"]


class FrameCorrections:
    """Optional gains and motions of n images, all starting at "no change".

    Both have a free overall part that the scene could absorb (brighter gains with a darker scene, all cameras shifted with the
    scene), so the mean gain is taken off and a weak penalty keeps motions small.
    """

    def __init__(self, count: int, *, exposure: bool, motion: bool, device: str) -> None:
        self.log_gain = torch.zeros(count, 3, device=device, requires_grad=True) if exposure else None
        self.motion = torch.zeros(count, 6, device=device, requires_grad=True) if motion else None

    def groups(self) -> list[ParameterGroup]:
        groups = []
        if self.log_gain is not None:
            groups.append(ParameterGroup("exposure", [self.log_gain], 2e-3))
        if self.motion is not None:
            groups.append(ParameterGroup("cameras", [self.motion], 3e-4))
        return groups

    def expose(
        self,
        colour: Tensor,  # (m, 3)
        frame: Tensor,  # (m,) int64
    ) -> Tensor:  # (m, 3)
        """Colours as the image's exposure shows them."""
        if self.log_gain is None:
            return colour
        # index_select, here and below: the backward of plain indexing adds in an order that varies between runs
        return colour * torch.exp(self.log_gain - self.log_gain.mean(dim=0)).index_select(0, frame)

    def move(
        self,
        poses: Tensor,  # (n, 4, 4) camera to cube
        frame: Tensor,  # (m,) int64
    ) -> Tensor:  # (m, 4, 4)
        """Poses of the images, turned by the learned rotation vector and shifted (cube units), each about its own centre."""
        if self.motion is None:
            return poses[frame]
        turn = torch.linalg.matrix_exp(_skew(self.motion[:, :3]))
        rotation = turn @ poses[:, :3, :3]
        position = poses[:, :3, 3:] + self.motion[:, 3:, None]
        return torch.cat([rotation, position], dim=2).index_select(0, frame)

    def penalty(self) -> Tensor | float:
        """A weak pull towards no motion."""
        return 1e-3 * self.motion.square().mean() if self.motion is not None else 0.0

    def state(self) -> dict[str, Tensor]:
        named = {"log_gain": self.log_gain, "motion": self.motion}
        return {name: value.detach() for name, value in named.items() if value is not None}

    def load_state(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name in ("log_gain", "motion"):
                target = getattr(self, name)
                if target is not None:
                    target.copy_(state[name])


def _skew(vectors: Tensor) -> Tensor:
    """(n, 3) rotation vectors to (n, 3, 3) cross-product matrices."""
    x, y, z = vectors.unbind(dim=1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.stack(rows, dim=1).view(-1, 3, 3)
