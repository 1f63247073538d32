"""The method "cam": a small radiance field with coordinate-aware modulation, still or moving, made to be packed.

Everything but the field is method "hash-grid": the shared renderer, occupancy, pixels and loss. A capture with times is learned as a
T-NeRF whose trunk is modulated by time (Lee et al. 2024, section 4.3). What makes its pictures sharp is not the paper's: moments come
in one after another (`moments`), levels of the hash grid from coarse to fine, and the warp turns places as well as moving them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from ...fields.cam_radiance import CamRadianceField, CamRadianceSettings
from ...fields.mlp.mlp import resolve_precision
from ...fields.optim.schedule import learning_rate_factor
from ...fields.quantisation import check_bits, straight_through
from ...render.cameras import Cameras
from .field_scene import FieldScene
from .hash_grid import HashGridMethod, HashGridSettings
from .methods import ParameterGroup
from .modulation_nodes import nodes_read
from .moments import Moments
from .pixels import PixelBatch, Pixels

__all__ = ["CamMethod", "CamSettings", "MovingScene"]

_RESOLUTIONS = {"direction": (10, 5), "position": (64, 64, 64), "time": (16,), "none": ()}


@dataclass
class CamSettings(HashGridSettings):
    """Everything the user may set with `--set key=value`; what is not here is as in method hash-grid. None: from the capture."""

    log2_table_size: int = 14
    encoder: str = "hash-grid"
    """"hash-grid" or "frequency"."""
    octaves: int = 8
    density_layers: int | None = None
    """None: 1 behind a hash grid, 2 in a moving scene, 4 behind frequencies."""
    learning_rate: float | None = None
    """Of the hash grid; None: 0.05, or 0.02 in a moving scene."""
    head_learning_rate: float | None = None
    """Of all weights and biases; None: 0.01 behind a hash grid, 0.005 in a moving scene, 0.002 behind frequencies."""
    head_weight_decay: float | None = None
    """None: 1e-6 behind a hash grid in a still scene, else 0: the gradients of a deep trunk and of a warp start smaller than that, and it
    would empty them."""
    samples: int | None = None
    """A step; None: 49,152 behind a hash grid; 16,384 in a moving scene or behind frequencies, where a sample costs more."""
    occupancy_resolution: int | None = None
    """None: 128 behind a hash grid, 64 in a moving scene or behind frequencies."""
    colour_layers: int = 2
    norm: str = "none"
    modulation: str | None = None
    """"direction" (colour only), "position", "time" or "none"; None: direction, or time for a moving scene."""
    modulation_resolution: list[int] | None = None
    """Nodes along each axis of the modulation; None: 10 x 5, 64 x 64 x 64, or 16."""
    modulation_factors: str = "dense"
    """Of modulation by position: "dense" is one grid, of which a packed file holds the nodes at occupied cells; "sum" and "product"
    are three planes."""
    modulation_channels: int = 1
    """Scales and shifts a layer of the density trunk: each for a run of its channels."""
    modulation_layers: int | None = None
    """Layers of the density trunk that are modulated, from the first; None: all."""
    modulation_of: str = "trunk"
    """What time modulates: any of "warp", "trunk" and "colour", joined by "+". The paper's is the trunk."""
    modulation_learning_rate: float | None = None
    """None: that of the heads, which is what the released code came to for scenes."""
    warp: str = "rigid"
    """Of a moving scene: "rigid" turns and shifts places, "offset" (T-NeRF's) only shifts them."""
    warp_hidden: int = 64
    warp_layers: int = 3
    place_octaves: int = 4
    """Of the warp's input; T-NeRF has 4 of place and 4 of time."""
    time_octaves: int = 2
    moments_until: float = 0.5
    """Share of the budget by which all moments of a moving scene are in use, from the middle one outwards; 0: from the start."""
    levels_until: float | None = None
    """Share of the budget by which all levels of the hash grid are in use, from the coarsest on; None: 0.5 in a moving scene, else 0."""
    looks: int = 4
    """Moments at which the occupancy grid of a moving scene looks at a cell each time; with one, cells of what moves fast come and go."""
    hold: float | None = None
    """Share of the budget at full learning rates; None: 0.6 in a moving scene, which is still meeting new moments at half, else 0.25."""
    bits: int = 0
    """Train weights and modulation through this quantisation in the last part of the budget; 0: do not."""
    quantise_from: float = 0.7


class CamMethod(HashGridMethod):
    """See `methods.Method`."""

    name = "cam"
    settings_class = CamSettings

    def _make_field(self, warp, seed: int) -> CamRadianceField:
        options, times = self.options, self.capture.times
        moving = times is not None and float(np.ptp(times)) > 0
        quick = options.encoder == "hash-grid"
        for key, value in {
            "modulation": "time" if moving else "direction",
            "density_layers": (2 if moving else 1) if quick else 4,
            "learning_rate": 2e-2 if moving else 5e-2,
            "head_learning_rate": (5e-3 if moving else 1e-2) if quick else 2e-3,
            "head_weight_decay": 1e-6 if quick and not moving else 0.0,
            "samples": 3 << 14 if quick and not moving else 1 << 14,
            "occupancy_resolution": 128 if quick and not moving else 64,
            "levels_until": 0.5 if quick and moving else 0.0,
            "hold": 0.6 if moving else 0.25,
        }.items():
            if getattr(options, key) is None:
                setattr(options, key, value)
        if options.modulation_resolution is None:
            options.modulation_resolution = list(_RESOLUTIONS.get(options.modulation, ()))
        if options.modulation_learning_rate is None:
            options.modulation_learning_rate = options.head_learning_rate
        if options.bits:
            check_bits(options.bits)
        if not isinstance(options.modulation_resolution, (list, tuple)):
            options.modulation_resolution = [options.modulation_resolution]
        self.settings = asdict(options)
        field = CamRadianceField(
            CamRadianceSettings(
                encoder=options.encoder,
                levels=options.levels,
                features=options.features,
                log2_table_size=options.log2_table_size,
                base_resolution=options.base_resolution,
                finest_resolution=options.finest_resolution,
                octaves=options.octaves,
                hidden=options.hidden,
                density_layers=options.density_layers,
                colour_layers=options.colour_layers,
                norm=options.norm,
                modulation=options.modulation,
                resolution=tuple(options.modulation_resolution),
                factors=options.modulation_factors if options.modulation == "position" else "dense",
                channels=options.modulation_channels,
                modulated=options.modulation_layers,
                moving=moving,
                timed=tuple(options.modulation_of.split("+")),
                warp=options.warp,
                warp_hidden=options.warp_hidden,
                warp_layers=options.warp_layers,
                place_octaves=options.place_octaves,
                time_octaves=options.time_octaves,
            ),
            contraction=warp,
            backend=options.backend,
            precision=resolve_precision(options.precision, self.device),
            generator=torch.Generator().manual_seed(seed),
        )
        self.times = None if not moving else np.asarray(times, np.float32)
        if moving:
            at = torch.from_numpy(self.times[self.train_split]).to(self.device)
            self._moments = Moments(at, options.moments_until)
        return field

    def groups(self) -> list[ParameterGroup]:
        options, field = self.options, self.field
        groups = []
        if field.grid is not None:
            field.grid.table.gradient_in_place = field.warp is None
            groups.append(ParameterGroup("grid", [field.grid.table], options.learning_rate, sparse=True))
        groups.append(
            ParameterGroup(
                "heads",
                field.mlp_parameters(),
                options.head_learning_rate,
                weight_decay=options.head_weight_decay,
            )
        )
        if field.grid_parameters():
            for grid in field.grid_parameters():
                grid.gradient_in_place = True
            groups.append(
                ParameterGroup(
                    "modulation",
                    field.grid_parameters(),
                    options.modulation_learning_rate,
                    sparse=options.modulation == "position",
                )
            )
        return [*groups, *self.corrections.groups()]

    def before_step(self, step: int, progress: float) -> None:
        on = self.options.bits and progress >= self.options.quantise_from
        self.field.quantise(straight_through(self.options.bits) if on else None)
        if self.options.levels_until > 0 and self.field.grid is not None:
            self.field.show_levels(progress / self.options.levels_until)
        if self.times is not None:
            self._moments.use(progress)
            if self.options.modulation == "time":
                for grid in self.field.grid_parameters():
                    self._moments.hold_beyond(grid)
        super().before_step(step, progress)

    def learning_rate_factor(self, progress: float, step: int) -> float:
        """The loop's schedule, with `hold`."""
        return learning_rate_factor(progress, step, hold=self.options.hold)

    def _density(self, positions: Tensor) -> Tensor:
        if self.times is None:
            return self.field.density(positions)
        # a cell is occupied if anything is in it at any moment: the grid remembers the largest of what it has seen
        most = torch.zeros(len(positions), device=positions.device)
        for _ in range(self.options.looks):
            moments = self._moments.some(len(positions), self.generator)
            most = torch.maximum(most, self.field.density(positions, moments))
        return most

    def batch(self, step: int) -> PixelBatch:
        if self.times is None:
            return super().batch(step)
        if self._pixels is None:
            self._pixels = Pixels(self.capture, self.train_split, self.cameras, self.device)
        return self._moments.draw(self._pixels, self._rays, self.generator)

    def _condition(self, batch: PixelBatch) -> Tensor | None:
        """The time of each ray."""
        return None if self.times is None else self._moments.times[batch.frame, None]

    def packing(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """As for hash grids; of a dense modulation by position only the nodes that occupied cells read, a column of values apart."""
        quantised, exact = super().packing()
        name = self._sparse_grid()
        if name is not None:
            columns = quantised.pop(name)[self._read_nodes(exact["occupancy.cells"])].t()
            quantised |= {f"{name}.{number}": column for number, column in enumerate(columns)}
        return quantised, exact

    def unpacked(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        tensors, name = dict(tensors), self._sparse_grid()
        if name is not None:
            grid = torch.zeros_like(self.field.get_parameter(name.removeprefix("field.")))
            columns = [tensors.pop(f"{name}.{number}") for number in range(grid.shape[1])]
            grid[self._read_nodes(tensors["occupancy.cells"])] = torch.stack(columns, 1)
            tensors[name] = grid
        return super().unpacked(tensors)

    def _sparse_grid(self) -> str | None:
        """The dense grid over x, y, z in `state`, if there is one and it is read in occupied cells only."""
        here = self.options.modulation == "position" and self.options.modulation_factors == "dense"
        return "field.density_head.modulation.grids.0" if here and self.capture.extent.bounded else None

    def _read_nodes(self, cells: Tensor) -> Tensor:
        """(nodes,) bool: what a sample within a cell of an occupied one reads; a mesh asks a little outside."""
        return nodes_read(cells[0], tuple(self.options.modulation_resolution), margin=1)

    def scene(self) -> FieldScene:
        self.field.show_levels(1.0)
        scene = super().scene()
        if self.times is None:
            return scene
        return MovingScene(self, scene)


class MovingScene(FieldScene):
    """A field at a moment: a frame of the capture is shown at its own time unless `time` is set."""

    def __init__(self, method: CamMethod, scene: FieldScene) -> None:
        super().__init__(scene.field, scene.renderer, scene.frame, background=scene.background)
        self.time: float | None = None
        self._times = method.times
        self._poses = method.capture.cameras.camera_to_world.cpu()

    def render_view(self, cameras: Cameras, index: int, **options: object) -> dict[str, Tensor]:
        self.field.time = self.time if self.time is not None else self._moment(cameras, index)
        return super().render_view(cameras, index, **options)

    def density(self, points: Tensor | np.ndarray) -> Tensor:
        self.field.time = self.time or 0.0
        return super().density(points)

    def colour(self, points: Tensor | np.ndarray, directions: Tensor | np.ndarray) -> Tensor:
        self.field.time = self.time or 0.0
        return super().colour(points, directions)

    def _moment(self, cameras: Cameras, index: int) -> float:
        """The time of the capture's frame that `cameras[index]` is, 0 for any other camera.

        Cameras do not tell frames of a standing camera apart, so the whole capture's cameras keep their numbers.
        """
        pose = cameras.camera_to_world[index].cpu()
        if len(cameras) == len(self._poses) and torch.equal(pose, self._poses[index]):
            return float(self._times[index])
        same = torch.nonzero((self._poses - pose).abs().amax((1, 2)) < 1e-9)[:, 0]
        return float(self._times[same[0]]) if len(same) else 0.0
