"""Rendering rays through a density and a colour, given as callables: the renderer knows no model.

`geometry(positions (n, 3)) -> (density (n,), features)` and `colour(directions (r, 3), features, ray (n,)) -> (n, 3)`; cube
coordinates throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .compositing import Composite, composite, transmittance
from .marching import Samples, march
from .occupancy import OccupancyGrid
from .stepping import Stepping
from .waves import light_pass

__all__ = ["Colour", "Geometry", "RenderedRays", "VolumeRenderer"]

WAVES = (24, 48, 4096)
"""Samples of a ray, at most, in each wave of a training step's light pass on the CPU; for GPUs see `waves`."""

Geometry = Callable[[Tensor], tuple[Tensor, Tensor]]
Colour = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass
class RenderedRays:
    """What r rays see, in cube units; a distance is 0 where nothing is seen."""

    colour: Tensor
    """(r, 3), the background not added."""
    opacity: Tensor
    """(r,)."""
    distance: Tensor
    """(r,) expected: the mean over weights."""
    distance_median: Tensor
    """(r,) where half of the light is left; 0 where more than half passes."""
    normals: Tensor | None
    """(r, 3) unit, against the density's gradient; 0 where nothing is seen. None if not asked for."""


@dataclass
class VolumeRenderer:
    """Marches occupied cells and composites."""

    occupancy: OccupancyGrid
    stepping: Stepping
    near: float = 0.0
    early_stop: float = 1e-4
    """A ray ends where less light than this is left."""
    minimum_alpha: float = 0.0
    """Samples more transparent than this are left out: of training, where they cost, and of pictures, where training never saw them."""
    backend: str = "auto"

    def train(
        self,
        origins: Tensor,  # (r, 3)
        directions: Tensor,  # (r, 3) unit
        jitter: Tensor,  # (r,) in [0, 1)
        geometry: Callable[..., tuple[Tensor, Tensor]],
        colour: Colour,
        look: Callable[..., tuple[Tensor, Tensor | None]] | None = None,
        condition: Tensor | None = None,  # (r, k) of each ray: its time, say
    ) -> tuple[Composite, Samples, int]:
        """Composite of rays for a loss, the samples it used, and how many were marched before early stop.

        Light is measured first without gradients, so that samples behind a surface cost no backward pass. Where `look` is given it
        does that: `look(positions) -> (density, known (n, k))`, and `geometry(positions, known)` gets the rows of the samples that
        stay, not to compute them twice. With `condition` both get its rows at their samples as one argument more. Differentiable through geometry and colour; and with respect to origins and
        directions where they require a gradient.
        """
        samples, known, marched = self._light_pass(
            origins.detach(),
            directions.detach(),
            jitter,
            look or (lambda p, *more: (geometry(p, None, *more)[0], None)),
            condition,
        )
        positions = samples.positions
        if origins.requires_grad or directions.requires_grad:
            ray = samples.ray.long()
            positions = origins[ray] + samples.distance[:, None] * directions[ray]
        more = () if condition is None else (condition[samples.ray.long()],)
        density, features = geometry(positions, known, *more)
        values = colour(directions.detach(), features, samples.ray)
        return (
            composite(
                density, values, samples.distance, samples.length, samples.starts, backend=self.backend
            ),
            samples,
            marched,
        )

    @torch.no_grad()
    def _light_pass(
        self,
        origins: Tensor,
        directions: Tensor,
        jitter: Tensor,
        look: Callable[..., tuple[Tensor, Tensor | None]],
        condition: Tensor | None,
    ) -> tuple[Samples, Tensor | None, int]:
        """The samples that light reaches, what `look` knows of them, and how many were looked at.

        In waves: most rays end in the first ones, and what lies behind their surface is never looked at.
        """
        rays, device = len(origins), origins.device
        if not _picks(device):
            return self._light_pass_in_place(origins, directions, jitter, look, condition)
        alive = torch.arange(rays, device=device)
        first, light = None, torch.ones(rays, device=device)
        found: list[tuple[Samples, Tensor, Tensor, Tensor | None]] = []
        marched = 0
        for limit in WAVES:
            samples = march(
                origins[alive], directions[alive], self.occupancy, self.stepping,
                near=self.near, jitter=jitter[alive], first=first, limit=limit, backend=self.backend,
            )  # fmt: skip
            if len(samples):
                marched += len(samples)
                more = () if condition is None else (condition[alive[samples.ray.long()]],)
                density, known = look(samples.positions, *more)
                reaching, left = transmittance(
                    density, samples.length, samples.starts, initial=light[alive], backend=self.backend
                )
                counts = reaching > self.early_stop
                if self.minimum_alpha > 0:
                    counts &= density * samples.length > self.minimum_alpha
                index = torch.nonzero(counts)[:, 0]
                found.append((samples, index, alive[samples.ray[index].long()], known))
                light[alive] = left
            going = torch.isfinite(samples.resume) & (light[alive] > self.early_stop)
            alive, first = alive[going], samples.resume[going]
            if len(alive) == 0:
                break
        return *_merge(found, rays, device), marched

    def _light_pass_in_place(
        self,
        origins: Tensor,
        directions: Tensor,
        jitter: Tensor,
        look: Callable[..., tuple[Tensor, Tensor | None]],
        condition: Tensor | None,
    ) -> tuple[Samples, Tensor | None, int]:
        """`_light_pass` without picking rays, for devices that are waited for whenever something is counted."""

        def march_on(first: Tensor | None, limit: int) -> Samples:
            return march(
                origins, directions, self.occupancy, self.stepping,
                near=self.near, jitter=jitter, first=first, limit=limit, backend=self.backend,
            )  # fmt: skip

        return light_pass(
            march_on, look, condition,
            early_stop=self.early_stop, minimum_alpha=self.minimum_alpha, backend=self.backend,
        )  # fmt: skip

    @torch.no_grad()
    def render(
        self,
        origins: Tensor,  # (r, 3)
        directions: Tensor,  # (r, 3) unit
        geometry: Geometry,
        colour: Colour,
        *,
        normals: bool = False,
        wave: int = 12,
        minimum_weight: float = 1e-4,
    ) -> RenderedRays:
        """Rays without gradients, `wave` samples of each at a time, so that rays that meet a surface stop early.

        The result does not depend on how rays are split over calls: lattices belong to rays. Samples that weigh less than
        `minimum_weight` are left out of the colour.
        """
        rays, device = len(origins), origins.device
        picks = _picks(device)
        out = RenderedRays(
            torch.zeros(rays, 3, device=device),
            torch.zeros(rays, device=device),
            torch.zeros(rays, device=device),
            torch.zeros(rays, device=device),
            torch.zeros(rays, 3, device=device) if normals else None,
        )
        light = torch.ones(rays, device=device)
        alive = torch.arange(rays, device=device)
        first = torch.full((rays,), -1.0, dtype=torch.float64, device=device)
        while len(alive):
            o, d = (origins[alive], directions[alive]) if picks else (origins, directions)
            o, d = o.contiguous(), d.contiguous()
            samples = march(
                o,
                d,
                self.occupancy,
                self.stepping,
                near=self.near,
                first=first,
                limit=wave,
                backend=self.backend,
            )
            if len(samples):
                self._accumulate(out, light, alive, d, samples, geometry, colour, minimum_weight)
            elif not picks:  # a ray that goes on has a sample where it does
                break
            if picks:
                going = torch.isfinite(samples.resume) & (light[alive] > self.early_stop)
                alive, first = alive[going], samples.resume[going]
            else:
                first = torch.where(light > self.early_stop, samples.resume, torch.inf)
            wave = min(2 * wave, 256)  # rays that are left cross much thin matter: fewer, longer waves
        found = out.opacity > 1e-6
        out.distance = torch.where(
            found, out.distance / out.opacity.clamp(min=1e-6), torch.zeros_like(out.distance)
        )
        if out.normals is not None:
            out.normals = torch.nn.functional.normalize(out.normals, dim=1)
        return out

    def _accumulate(
        self,
        out: RenderedRays,
        light: Tensor,
        alive: Tensor,
        directions: Tensor,
        samples: Samples,
        geometry: Geometry,
        colour: Colour,
        minimum_weight: float,
    ) -> None:
        density, features = geometry(samples.positions)
        if self.minimum_alpha > 0:
            density = torch.where(density * samples.length > self.minimum_alpha, density, 0)
        reaching, left = transmittance(
            density, samples.length, samples.starts, initial=light[alive], backend=self.backend
        )
        optical = density * samples.length
        weights = reaching * -torch.expm1(-optical)
        light[alive] = left
        ray = alive[samples.ray.long()]
        out.opacity.index_add_(0, ray, weights)
        out.distance.index_add_(0, ray, weights * samples.distance)
        half = (reaching >= 0.5) & (reaching * torch.exp(-optical) < 0.5)
        if _picks(half.device):
            inside = torch.log(reaching[half] * 2) / density[half].clamp(min=1e-12)
            out.distance_median[ray[half]] = samples.distance[half] - 0.5 * samples.length[half] + inside
        else:  # one sample of a ray at most: the sum is an assignment
            inside = torch.log(reaching * 2) / density.clamp(min=1e-12)
            there = samples.distance - 0.5 * samples.length + inside
            out.distance_median.index_add_(0, ray, torch.where(half, there, 0))
        seen = torch.nonzero(weights > minimum_weight)[:, 0]
        if len(seen) == 0:
            return
        values = colour(directions, _columns(features, seen), samples.ray[seen])
        out.colour.index_add_(0, ray[seen], weights[seen, None] * values)
        if out.normals is not None:
            with torch.enable_grad():
                position = samples.positions[seen].detach().requires_grad_()
                gradient = torch.autograd.grad(geometry(position)[0].sum(), position)[0]
            normal = -torch.nn.functional.normalize(gradient, dim=1)
            out.normals.index_add_(0, ray[seen], weights[seen, None] * normal)


def _picks(device: torch.device) -> bool:
    """Whether rays that go on are picked out. A GPU walks all of them: it is waited for whenever they are counted."""
    return device.type == "cpu"


def _columns(features: Tensor, index: Tensor) -> Tensor:
    """features[index], kept feature-major where it was."""
    if features.device.type == "cpu" and features.dtype == torch.float32 and features.t().is_contiguous():
        from .columns_cpu import select_columns

        return select_columns(features.t(), index).t()
    return features[index]


def _merge(
    found: list[tuple[Samples, Tensor, Tensor, Tensor | None]], rays: int, device: torch.device
) -> tuple[Samples, Tensor | None]:
    """One packed set of samples out of waves: (samples, which of them, the ray of each, known values), nearest first."""
    if not found:
        starts, places = torch.zeros(rays + 1, dtype=torch.int64, device=device), []
    else:
        if device.type == "cpu":
            from .columns_cpu import places as find_places
        else:
            find_places = _places
        starts, places = find_places([ray for _, _, ray, _ in found], rays)
    n = int(starts[-1])
    ray_of = torch.empty(n, dtype=torch.int32, device=device)
    distance, length = torch.empty(n, device=device), torch.empty(n, device=device)
    positions = torch.empty(3, n, device=device)
    keeps = found and found[0][3] is not None
    known = torch.empty(found[0][3].shape[1], n, device=device) if keeps else None
    for (samples, index, ray, values), place in zip(found, places, strict=True):
        ray_of[place] = ray.int()
        distance[place], length[place] = samples.distance[index], samples.length[index]
        _move_columns(samples.positions.t(), index, place, positions)
        if known is not None:
            _move_columns(values.t(), index, place, known)
    resume = torch.full((rays,), torch.inf, dtype=torch.float64, device=device)
    return (
        Samples(starts, ray_of, distance, length, positions.t(), resume),
        None if known is None else known.t(),
    )


def _places(waves: list[Tensor], rays: int) -> tuple[Tensor, list[Tensor]]:
    """Where the items of each wave, given by their rays in rising order, go in a packing by rays: (starts, places)."""
    device = waves[0].device
    counts = [torch.bincount(ray, minlength=rays) for ray in waves]
    starts = torch.zeros(rays + 1, dtype=torch.int64, device=device)
    starts[1:] = torch.stack(counts).sum(0).cumsum(0)
    begin, found = starts[:-1].clone(), []
    for ray, count in zip(waves, counts, strict=True):
        rank = torch.arange(len(ray), device=device) - (count.cumsum(0) - count)[ray]
        found.append(begin[ray] + rank)
        begin += count
    return starts, found


def _move_columns(source: Tensor, index: Tensor, place: Tensor, out: Tensor) -> None:
    if out.device.type == "cpu" and source.is_contiguous():
        from .columns_cpu import move_columns

        move_columns(source, index, place, out)
    else:
        out[:, place] = source[:, index]
