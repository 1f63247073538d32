"""`python -m fieldstone.tools.training.primitive_shapes`: trains the shape space of mesh primitives that we ship.

Patches are generated, so that the recipe is this file and the seed. A few minutes on one core.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import Tensor

from ...fields.primitives import (
    PatchEncoder,
    ShapeDecoder,
    ShapeSpace,
    chamfer,
    draw_patches,
    laplacian,
    save_shapes,
    surface_samples,
    template,
)
from ...fields.primitives.shape_space import BUNDLED, CODE

__all__ = ["face_weights", "train_shapes"]

BATCH = 48
SHOWN = 48
"""Points the encoder is shown at once; as many as it gets in use."""
SMOOTH = 0.15
"""Weight of the Laplacian, of lengths in half diagonals."""


def _say(line: str) -> None:
    print(line, flush=True)


def face_weights(count: int, generator: torch.Generator) -> Tensor:  # (80, count, 3)
    """Barycentrics, uniform over each face."""
    root, other = torch.rand(2, 80, count, generator=generator).unbind(0)
    root = root.sqrt()
    return torch.stack([1 - root, root * (1 - other), root * other], 2)


def train_shapes(
    steps: int = 2500, *, patches: int = 4000, seed: int = 0, learning_rate: float = 2e-3, say=_say
) -> ShapeSpace:
    """Encoder and decoder together: a patch as a scanner saw it is encoded, the decoded surface compared with all of the patch."""
    torch.manual_seed(seed)  # the layers' first weights
    generator = torch.Generator().manual_seed(seed)
    drawn = draw_patches(patches, np.random.default_rng(seed))
    full, seen = torch.from_numpy(drawn.full), torch.from_numpy(drawn.seen)
    space = ShapeSpace(
        ShapeDecoder(), PatchEncoder(), torch.nn.Parameter(torch.randn(CODE, generator=generator))
    )
    parameters = [*space.decoder.parameters(), *space.encoder.parameters(), space.sphere]
    optimiser = torch.optim.Adam(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, learning_rate, total_steps=max(steps, 2), pct_start=0.1
    )
    total = 0.0
    for step in range(steps):
        chosen = torch.randint(patches, (BATCH,), generator=generator)
        shown = torch.randint(seen.shape[1], (SHOWN,), generator=generator)
        vertices = space.decoder(space.encoder(seen[chosen][:, shown]))
        samples = surface_samples(vertices, face_weights(2, generator))
        out, back = chamfer(samples, full[chosen])
        sphere = (space.decoder(space.sphere[None]) - template().vertices).square().sum(-1).mean()
        loss = (out + back + SMOOTH * laplacian(vertices)).mean() + sphere
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        total += float((out + back).detach().mean()) / 2
        if (step + 1) % 250 == 0:
            say(f"step {step + 1}: mean distance {total / 250:.4f} half diagonals")
            total = 0.0
    sphere = torch.nn.functional.normalize(space.sphere.detach(), dim=0)
    return space._replace(sphere=sphere)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=str(BUNDLED), help="weights to write (default: those that we ship)")
    arguments = parser.parse_args()
    save_shapes(arguments.out, train_shapes(arguments.steps, seed=arguments.seed))
    print(arguments.out)


if __name__ == "__main__":
    main()
