"""A small radiance field with coordinate-aware modulation, still or moving (Lee et al. 2024, sections 4.2 and 4.3).

An encoding (hash grid or frequencies), a density trunk, a colour head. Ours, against the paper's: direction modulates the colour
head only and norms look at one sample, so density stays a function of position (and time), whatever it is batched with; a moving
scene warps positions by a small network of place and time (T-NeRF) and modulates the trunk by time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from fieldstone.core.errors import UserError

from .activations import truncated_exp
from .encodings.frequency import encoding_with_coordinates
from .encodings.hash_grid import HashGrid
from .encodings.spherical_harmonics import spherical_harmonics
from .modulation import CamMlp, CoordinateModulation
from .modulation.presets import sphere_coordinates

__all__ = ["ENCODERS", "MODULATIONS", "TIMED", "CamRadianceField", "CamRadianceSettings", "rigid"]

ENCODERS = ("hash-grid", "frequency")
MODULATIONS = ("none", "direction", "position", "time")

_WARPS = {"rigid": 6, "offset": 3}
"""Numbers that the warp has for each place."""

TIMED = ("warp", "trunk", "colour")
"""Networks that time may modulate; the paper modulates the trunk, the others are ours."""


@dataclass(frozen=True)
class CamRadianceSettings:
    """Sizes of a `CamRadianceField`; plain data."""

    encoder: str = "hash-grid"
    levels: int = 16
    features: int = 2
    log2_table_size: int = 14
    base_resolution: int = 16
    finest_resolution: int = 1024
    octaves: int = 8
    """Of the frequency encoder, the lowest with one period over the cube."""
    hidden: int = 64
    density_layers: int = 1
    colour_layers: int = 2
    geometry_features: int = 16
    direction_degree: int = 4
    norm: str = "none"
    """Of density trunk and colour head: "none" or "layer"."""
    modulation: str = "direction"
    resolution: tuple[int, ...] = (10, 5)
    """Nodes of the modulation: azimuth and elevation, or x, y, z, or time."""
    factors: str = "dense"
    """Of modulation by position: "dense" is one grid, "sum" and "product" three planes; see `CoordinateModulation`."""
    channels: int = 1
    """Of the modulation by position or time: runs of channels of a layer that have a scale and shift each."""
    modulated: int | None = None
    """Layers of the density trunk that are modulated, from the first; None: all."""
    moving: bool = False
    timed: tuple[str, ...] = ("trunk",)
    """Networks that time modulates, each layer with `resolution` nodes of its own."""
    warp: str = "rigid"
    """"rigid" turns and shifts places, "offset" (T-NeRF's) only shifts them."""
    warp_hidden: int = 64
    warp_layers: int = 3
    place_octaves: int = 4
    """Of the warp's input, and `time_octaves`: T-NeRF's are 4 and 4."""
    time_octaves: int = 2


class CamRadianceField(nn.Module):
    """Density and view-dependent sRGB colour over the cube, and over time in [0, 1] if `settings.moving`.

    `contraction` maps cube coordinates to [0, 1]^3. `time` is the moment that `geometry` and `density` answer for unless they
    are given one. `UserError` for settings that do not go together.
    """

    def __init__(
        self,
        settings: CamRadianceSettings,
        *,
        contraction: Callable[[Tensor], Tensor] | None = None,
        backend: str = "auto",
        precision: str = "float32",  # of trunk and colour head, or "bfloat16"; the warp is float32
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check(settings)
        self.settings, self.contraction = settings, contraction
        self.time, self.backend = 0.0, "reference" if backend == "reference" else "auto"
        small = {"norm": settings.norm, "backend": backend, "precision": precision, "generator": generator}
        self.grid, self._shown = None, None
        inputs = 3 + 6 * settings.octaves
        span = settings.finest_resolution / settings.base_resolution
        growth = math.exp(math.log(span) / (settings.levels - 1)) if settings.levels > 1 else 1.0
        if settings.encoder == "hash-grid":
            self.grid = HashGrid(
                3, settings.levels, settings.features, settings.log2_table_size, settings.base_resolution, growth,
                backend=backend, generator=generator,
            )  # fmt: skip
            inputs = self.grid.output_size
        of_density = of_colour = of_warp = None
        modulated = range(
            settings.density_layers
            if settings.modulated is None
            else min(settings.modulated, settings.density_layers)
        )
        if settings.modulation == "direction":
            of_colour = CoordinateModulation(
                settings.colour_layers, settings.resolution, padding=("wrap", "border"), backend=backend
            )
        elif settings.modulation == "position":
            of_density = CoordinateModulation(
                len(modulated), settings.resolution, channels=settings.channels, factors=settings.factors,
                backend=backend,
            )  # fmt: skip
        elif settings.modulation == "time":
            layers = {"trunk": len(modulated), "colour": settings.colour_layers, "warp": settings.warp_layers}
            of_density, of_colour, of_warp = (
                CoordinateModulation(
                    layers[part], settings.resolution, channels=settings.channels, backend=backend
                )
                if part in settings.timed
                else None
                for part in ("trunk", "colour", "warp")
            )
        self.density_head = CamMlp(
            inputs, settings.hidden, settings.density_layers, settings.geometry_features,
            modulation=of_density, modulated=modulated if of_density is not None else None, **small,
        )  # fmt: skip
        self.colour_head = CamMlp(
            settings.geometry_features + settings.direction_degree**2, settings.hidden, settings.colour_layers, 3,
            modulation=of_colour, **small,
        )  # fmt: skip
        self.warp = None
        if settings.moving:
            inputs = 3 + 6 * settings.place_octaves + 1 + 2 * settings.time_octaves
            self.warp = CamMlp(
                inputs, settings.warp_hidden, settings.warp_layers, _WARPS[settings.warp], modulation=of_warp,
                backend=backend, generator=generator,
            )  # fmt: skip
            with torch.no_grad():  # a still scene at the start
                self.warp.weights[-1].mul_(0.01)
                self.warp.biases[-1].zero_()

    @property
    def networks(self) -> list[CamMlp]:
        """Trunk, colour head, and the warp of a moving scene."""
        return [self.density_head, self.colour_head, *([self.warp] if self.warp is not None else [])]

    def grid_parameters(self) -> list[nn.Parameter]:
        """Modulation grids."""
        return [grid for net in self.networks if net.modulation is not None for grid in net.grid_parameters()]

    def mlp_parameters(self) -> list[nn.Parameter]:
        """Weights and biases of all networks."""
        return [p for net in self.networks for p in net.mlp_parameters()]

    def quantise(self, function: Callable[[Tensor], Tensor] | None) -> None:
        """Sets what weights and modulation grids go through where they are used; see `CamMlp.quantiser`."""
        for net in self.networks:
            net.quantiser = function

    def show_levels(self, share: float) -> None:
        """How many levels of the hash grid take part, coarse ones first, the last with less weight: two at 0, all from 1 on."""
        count = self.settings.levels
        last = 2 + (count - 2) * min(share, 1.0)
        weights = (last - torch.arange(count)).clamp(0, 1).repeat_interleave(self.settings.features)
        self._shown = None if last >= count else weights.to(self.grid.table.device)

    def geometry(
        self,
        positions: Tensor,  # (n, 3) cube coordinates
        encoded: Tensor | None = None,  # (n, k) of `look` at these positions
        times: Tensor | None = None,  # (n, 1) in [0, 1]; None: `time`
    ) -> tuple[Tensor, Tensor]:  # (n,) density per cube unit, (n, geometry_features)
        """Density and the features its trunk hands to the colour head. Differentiable."""
        encoded, inside, moments = self._encode(positions, self.time if times is None else times, encoded)
        features = self._trunk(encoded, inside, moments)
        density = truncated_exp(features[:, 0])
        return density, torch.cat([features, moments], 1) if self._colour_in_time else features

    @torch.no_grad()
    def look(self, positions: Tensor, times: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(n,) density without gradients, and the encoding, which `geometry` takes back; None where that needs a gradient."""
        encoded, inside, time = self._encode(positions, self.time if times is None else times)
        density = truncated_exp(self._trunk(encoded, inside, time, outputs=1)[:, 0])
        return density, None if self.warp is not None else encoded

    def density(
        self,
        positions: Tensor,  # (n, 3)
        condition: Tensor | float | None = None,  # (n, 1) or one time in [0, 1]; None: `time`
    ) -> Tensor:  # (n,) per cube unit
        """A function of each position (and its time) alone."""
        time = self.time if condition is None else condition
        return truncated_exp(self._trunk(*self._encode(positions, time), outputs=1)[:, 0])

    def colour(
        self,
        directions: Tensor,  # (r, 3) unit, looking along
        features: Tensor,  # (n, geometry_features) of `geometry`
        ray: Tensor,  # (n,) int32, the direction of each sample
    ) -> Tensor:  # (n, 3) sRGB in (0, 1)
        """Colour seen along each sample's direction; not differentiable with respect to directions."""
        basis = spherical_harmonics(directions, self.settings.direction_degree)
        at = None
        if self._colour_in_time:
            features, at = features.split([self.settings.geometry_features, 1], 1)
        elif self.colour_head.modulation is not None:
            at = sphere_coordinates(directions.detach())[ray.long()]
        return torch.sigmoid(self.colour_head(features, at, shared=basis, index=ray))

    @property
    def _colour_in_time(self) -> bool:
        return self.settings.modulation == "time" and self.colour_head.modulation is not None

    def to_json(self) -> dict:
        return asdict(self.settings)

    def _encode(
        self, positions: Tensor, time: Tensor | float, known: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:  # encoding, place in the unit cube, (n, 1) time
        inside = self.contraction(positions) if self.contraction is not None else positions
        moments = None
        if self.warp is not None:
            moments = time if isinstance(time, Tensor) else torch.full_like(positions[:, :1], time)
            place = self._waves(2 * inside - 1, self.settings.place_octaves)
            waves = self._waves(moments, self.settings.time_octaves)
            moved = self.warp(torch.cat([place, waves], 1), moments)
            inside = rigid(inside, moved) if self.settings.warp == "rigid" else inside + moved
        if self.grid is not None:
            encoded = self.grid(inside.clamp(0, 1) if self.warp is not None else inside, known)
            return encoded if self._shown is None else encoded * self._shown, inside, moments
        encoded = known if known is not None else self._waves(2 * inside - 1, self.settings.octaves)
        return encoded, inside, moments

    def _waves(self, x: Tensor, octaves: int) -> Tensor:
        return encoding_with_coordinates(x, octaves, self.backend)

    def _trunk(
        self, encoded: Tensor, inside: Tensor, time: Tensor | None, outputs: int | None = None
    ) -> Tensor:
        at = None
        if self.density_head.modulation is not None:
            at = time if self.settings.modulation == "time" else inside
        return self.density_head(encoded, at, outputs=outputs)


def rigid(
    places: Tensor,  # (n, 3)
    motion: Tensor,  # (n, 6): shift, and axis times tan(angle / 2) of a turn about the cube's centre
) -> Tensor:  # (n, 3)
    """Each place turned and shifted by its own motion, as in Nerfies (Park et al. 2021, section 3.2), with Cayley's rotation: what turns as a whole has the same
    numbers everywhere, which a small network learns more easily than the shifts of all its points."""
    shift, turn = motion.split(3, 1)
    swung = torch.linalg.cross(turn, places - 0.5)
    twice = torch.linalg.cross(turn, swung)
    return places + shift + 2 / (1 + turn.square().sum(1, keepdim=True)) * (swung + twice)


def _check(settings: CamRadianceSettings) -> None:
    if settings.encoder not in ENCODERS:
        raise UserError(f"encoder {settings.encoder!r}: there are {', '.join(ENCODERS)}")
    if settings.modulation not in MODULATIONS:
        raise UserError(f"modulation {settings.modulation!r}: there are {', '.join(MODULATIONS)}")
    if settings.norm not in ("none", "layer"):
        raise UserError(
            f"norm {settings.norm!r}: density must not depend on other samples, so there are none and layer"
        )
    if settings.modulation == "time" and not settings.moving:
        raise UserError("modulation time: the capture has no times; use direction, position or none")
    if settings.moving and settings.warp not in _WARPS:
        raise UserError(f"warp {settings.warp!r}: there are {', '.join(_WARPS)}")
    if not settings.timed or any(part not in TIMED for part in settings.timed):
        raise UserError(f"modulation_of {'+'.join(settings.timed)!r}: any of {', '.join(TIMED)}, joined by +")
    wanted = {"direction": 2, "position": 3, "time": 1}.get(settings.modulation)
    if wanted is not None and len(settings.resolution) != wanted:
        raise UserError(
            f"modulation_resolution {tuple(settings.resolution)}: modulation {settings.modulation} has {wanted} axes"
        )
