"""The method "hash-grid": a radiance field on a hash grid, volume rendered (Mueller et al. 2022, instant-ngp)."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from fieldstone.core.similarity import Similarity

from ...fields.encodings.hash_grid import HashGrid
from ...fields.mlp.mlp import resolve_precision
from ...fields.radiance import RadianceField, RadianceSettings
from ...render.cameras import Cameras
from ...render.volume.contraction import contract
from ...render.volume.distortion import distortion
from ...render.volume.occupancy import OccupancyGrid
from ...render.volume.renderer import VolumeRenderer
from ...render.volume.stepping import Stepping
from .checkpoint import prefixed, restore_generator, select
from .corrections import FrameCorrections
from .field_scene import FieldScene
from .methods import ParameterGroup, psnr_of, radiance_groups, read_settings
from .pixels import PixelBatch, Pixels

__all__ = ["HashGridMethod", "HashGridSettings"]

COARSE = ((32, 16), (64, 8), (128, 4), (256, 2))
"""(until step, times longer steps) at the start of training."""


@dataclass
class HashGridSettings:
    """Everything the user may set with `--set key=value`. None: chosen from the capture."""

    levels: int = 16
    features: int = 2
    log2_table_size: int = 18
    base_resolution: int = 16
    finest_resolution: int | None = None
    """Vertices of the finest level; None: two to a pixel at the cube's centre, between 512 and 4096."""
    hidden: int = 64
    precision: str = "auto"
    backend: str = "auto"
    learning_rate: float = 5e-2
    head_learning_rate: float = 1e-2
    head_weight_decay: float = 1e-6
    samples: int | None = None
    """Samples a step trains on; the number of rays follows from it. None: 49,152, on a GPU 262,144, which keep it busy."""
    most_rays: int | None = None
    """None: 32,768, on a GPU 131,072."""
    occupancy_resolution: int = 128
    occupancy_threshold: float = 0.01
    steps_across: int | None = None
    """Steps along the diagonal of the field cube; None: 256 to 1024, so that a step is about 0.7 of a pixel at its centre."""
    cone: float | None = None
    """Growth of steps with distance; None: 0 for bounded captures, 1/256 for unbounded ones."""
    cascades: int | None = None
    """Occupancy cubes, each twice as wide as the one before; None: 1 bounded, 6 unbounded."""
    near: float | None = None
    """Nearest distance seen, in sides of the field cube; None: 0 bounded, 0.02 unbounded."""
    minimum_alpha: float = 2e-3
    """Samples more transparent than this are left out of a step once the scene has settled (from step 256)."""
    huber: float = 0.1
    """Where the loss turns from quadratic to linear (differences of sRGB values)."""
    distortion: float | None = None
    """Weight of the distortion loss; None: 0 bounded, 0.001 unbounded."""
    opacity_entropy: float = 0.0
    """Weight of -o log o, which pushes a ray's opacity to 0 or 1."""
    exposure: bool = False
    """Learn a gain per image and channel."""
    refine_cameras: bool = False
    """Learn a small motion per camera."""


class HashGridMethod:
    """See `methods.Method`."""

    name = "hash-grid"
    exports = frozenset({"views", "mesh"})
    settings_class = HashGridSettings

    def __init__(self, capture, settings: dict, *, seed: int, device: str) -> None:
        self.options = read_settings(self.settings_class, settings, self.name)
        options, extent = self.options, capture.extent
        bounded = extent.bounded
        defaults = {
            "cone": 0.0 if bounded else 1 / 256,
            "cascades": 1 if bounded else 6,
            "near": 0.0 if bounded else 0.02,
            "distortion": 0.0 if bounded else 1e-3,
        }
        side = 2.0 * float(extent.half_side)
        self.frame = Similarity(1 / side, np.eye(3), 0.5 - np.asarray(extent.centre, float) / side)
        self.train_split = np.asarray(capture.splits["train"])
        self.cameras = capture.cameras[self.train_split]
        pixel = _pixel(self.cameras.transformed(self.frame))
        # finer steps cost time and cannot be told apart in the pictures; the bounds are instant-ngp's step, and four times it
        defaults["steps_across"] = int(min(max(math.sqrt(3) / (0.7 * pixel), 256), 1024))
        # finer levels only learn the noise of single views: 2048 cost 0.3 dB on views that were held out (lego at 400 x 400)
        shrunk = 1.0 if bounded else 0.5  # contraction leaves the cube half of the grid
        defaults["finest_resolution"] = int(min(max(2 / (pixel * shrunk), 512), 4096))
        for key, value in defaults.items():
            if getattr(options, key) is None:
                setattr(options, key, value)
        self.capture, self.device = capture, device
        self.generator = torch.Generator(device=device).manual_seed(seed)
        self.field = self._make_field(None if bounded else contract, seed).to(device)
        if options.samples is None:
            options.samples = 1 << 18 if device == "cuda" else 3 << 14
        if options.most_rays is None:
            options.most_rays = 1 << 17 if device == "cuda" else 1 << 15
        self.settings = asdict(options)
        occupancy = OccupancyGrid(
            options.occupancy_resolution,
            options.cascades,
            threshold=options.occupancy_threshold,
            device=device,
        )
        kernels = "reference" if options.backend == "reference" else "auto"
        self.renderer = VolumeRenderer(occupancy, self._stepping(), options.near, backend=kernels)
        self.corrections = FrameCorrections(
            len(self.train_split), exposure=options.exposure, motion=options.refine_cameras, device=device
        )
        self._poses = torch.from_numpy(
            self.frame.apply_to_poses(self.cameras.camera_to_world.cpu().numpy())
        ).float().to(device)  # fmt: skip
        self._pixels: Pixels | None = None
        self._rays = 4096

    def _make_field(self, warp, seed: int) -> RadianceField:
        options = self.options
        settings = RadianceSettings(
            levels=options.levels,
            features=options.features,
            log2_table_size=options.log2_table_size,
            base_resolution=options.base_resolution,
            finest_resolution=options.finest_resolution,
            hidden=options.hidden,
        )
        return RadianceField(
            settings,
            warp=warp,
            backend=options.backend,
            precision=resolve_precision(options.precision, self.device),
            generator=torch.Generator().manual_seed(seed),
        )

    def groups(self) -> list[ParameterGroup]:
        return [*radiance_groups(self.field, self.options), *self.corrections.groups()]

    @torch.no_grad()
    def before_step(self, step: int, progress: float) -> None:
        """Keeps the occupancy grid up to date: often and everywhere at first, later a part of it now and then."""
        occupancy = self.renderer.occupancy
        # while nearly all of space counts as occupied, long steps leave the sample budget to many rays
        self.renderer.stepping = self._stepping(next((n for until, n in COARSE if step < until), 1))
        self.renderer.minimum_alpha = self.options.minimum_alpha if step >= COARSE[-1][0] else 0.0
        if step == 0 and not self.capture.extent.bounded:
            self._close_unseen()
        interval = 8 if step < 256 else 16
        if step % interval == 0:
            cells = occupancy.values.numel()
            share = (
                1.0
                if step == 0
                else min(1.0, (1 << 19) / cells)
                if step < 256
                else min(0.25, (1 << 18) / cells)
            )
            occupancy.update(self._density, self._stepping().smallest, self.generator, share)

    def _density(self, positions: Tensor) -> Tensor:
        """What the occupancy grid asks of the field."""
        return self.field.density(positions)

    def batch(self, step: int) -> PixelBatch:
        if self._pixels is None:
            self._pixels = Pixels(self.capture, self.train_split, self.cameras, self.device)
        return self._pixels.draw(self._rays, self.generator)

    def _condition(self, batch: PixelBatch) -> Tensor | None:
        """(m, k) what else the field depends on along each ray; None: nothing."""
        return None

    def loss(self, batch: PixelBatch) -> tuple[Tensor, dict[str, float]]:
        options = self.options
        count = len(batch.frame)
        poses = self.corrections.move(self._poses, batch.frame)
        directions = torch.einsum("nij,nj->ni", poses[:, :3, :3], batch.directions)
        origins = poses[:, :3, 3]
        jitter = torch.rand(count, generator=self.generator, device=self.device)
        seen, samples, marched = self.renderer.train(
            origins.contiguous(), directions, jitter, self.field.geometry, self.field.colour, self.field.look,
            self._condition(batch),
        )  # fmt: skip
        # a random background, so that neither black nor white can stand for "nothing there"
        behind = torch.rand(count, 3, generator=self.generator, device=self.device)
        target = batch.colour * batch.alpha[:, None] + behind * (1 - batch.alpha)[:, None]
        colour = self.corrections.expose(seen.colour, batch.frame) + behind * (1 - seen.opacity)[:, None]
        difference = colour - target
        loss = torch.nn.functional.huber_loss(colour, target, delta=options.huber)
        if options.distortion > 0 and len(samples):
            # distances counted in steps, so that a metre far away weighs what it shows
            stepping = self.renderer.stepping
            unit = stepping.smallest / math.sqrt(3)
            reach = stepping.to_steps(samples.distance) * unit
            width = torch.full_like(reach, unit)
            compact = distortion(seen.weights, reach, width, samples.ray, samples.starts)
            loss = loss + options.distortion * compact.mean()
        if options.opacity_entropy > 0:
            opacity = seen.opacity.clamp(1e-5, 1)
            loss = loss - options.opacity_entropy * (opacity * opacity.log()).mean()
        loss = loss + self.corrections.penalty()
        self._follow(count, len(samples), marched)
        error = difference.detach().square().mean()
        return loss, {
            "psnr": psnr_of(error),
            "rays": count,
            "samples": len(samples),
            "marched": marched,
        }

    def state(self) -> dict[str, Tensor]:
        tensors = prefixed("field.", self.field.state_dict())
        tensors |= prefixed("occupancy.", self.renderer.occupancy.state())
        tensors |= prefixed("corrections.", self.corrections.state())
        tensors["generator"] = self.generator.get_state()
        tensors["rays"] = torch.tensor(self._rays)
        return tensors

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.field.load_state_dict(select(state, "field."))
        self.renderer.occupancy.load_state(select(state, "occupancy."))
        self.corrections.load_state(select(state, "corrections."))
        restore_generator(self.generator, state["generator"])
        self._rays = int(state["rays"])

    def packing(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What a packed file quantises (tables level by level, weights, grids), and what it keeps exact (biases, occupied cells)."""
        learned = {f"field.{name}": value for name, value in self.field.named_parameters()}
        exact = {name: value for name, value in learned.items() if ".biases." in name}
        exact["occupancy.cells"] = self.renderer.occupancy.cells
        exact |= {f"corrections.{name}": value for name, value in self.corrections.state().items()}
        quantised = {}
        for name, value in learned.items():
            if name in exact:
                continue
            levels = self._levels(name)
            if levels is None:
                quantised[name] = value
            else:
                parts = value.split(levels)
                quantised |= {f"{name}.{number}": part for number, part in enumerate(parts)}
        return quantised, exact

    def unpacked(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """A state for `load_state` from the tensors of a packed file."""
        tensors = dict(tensors)
        for name in (f"field.{name}" for name, _ in self.field.named_parameters()):
            levels = self._levels(name)
            if levels is not None and name not in tensors:  # earlier files hold tables whole
                tensors[name] = torch.cat([tensors.pop(f"{name}.{number}") for number in range(len(levels))])
        return {**self.state(), **tensors, "occupancy.values": tensors["occupancy.cells"].float()}

    def _levels(self, name: str) -> list[int] | None:
        """Values in each level of the table of that name in `state`; None for what is no table."""
        owner, _, last = name.removeprefix("field.").rpartition(".")
        grid = self.field.get_submodule(owner) if last == "table" else None
        if not isinstance(grid, HashGrid):
            return None
        starts = [int(start) * grid.levels.features for start in grid.levels.offset]
        return [stop - start for start, stop in itertools.pairwise([*starts, grid.levels.parameters])]

    def scene(self) -> FieldScene:
        self.renderer.stepping = self._stepping()
        self.renderer.minimum_alpha = self.options.minimum_alpha  # what training did not see is not shown
        return FieldScene(self.field, self.renderer, self.frame, background=self.capture.background)

    def _stepping(self, coarser: int = 1) -> Stepping:
        options = self.options
        smallest = coarser * math.sqrt(3) / options.steps_across
        if options.cone == 0:
            return Stepping(smallest)
        largest = 2.0 ** (options.cascades - 1) / options.occupancy_resolution
        return Stepping(smallest, options.cone, max(largest, smallest))

    def _follow(self, rays: int, samples: int, marched: int) -> None:
        """Sets the number of rays so that the next step trains on about `samples`, and marches at most four times that."""
        wanted = self.options.samples
        cost = max(samples, marched / 4, 1) / rays
        goal = min(max(wanted / cost, 256), self.options.most_rays)
        # a multiple of 64, moved half of the way: the estimate of one step is noisy
        self._rays = max(64, int(0.5 * (self._rays + goal)) // 64 * 64)

    def _close_unseen(self) -> None:
        """Closes cells that no training camera sees: nothing could ever correct what grows there."""
        cameras = self.cameras.transformed(self.frame)
        width, height = cameras.sizes[:, 0].float(), cameras.sizes[:, 1].float()

        def visible(points: Tensor) -> Tensor:
            found = torch.zeros(len(points), dtype=torch.bool)
            for index in range(len(cameras)):
                todo = torch.nonzero(~found)[:, 0]
                if len(todo) == 0:
                    break
                pixels, z = cameras.project(points[todo].cpu(), torch.full((len(todo),), index))
                x, y = pixels[:, 0], pixels[:, 1]  # NaN, hence False, where there is no image of the point
                found[todo] = (x >= 0) & (x <= width[index]) & (y >= 0) & (y <= height[index]) & z.isfinite()
            return found.to(points.device)

        self.renderer.occupancy.restrict(visible)


def _pixel(
    cameras: Cameras,  # in the cube's frame
) -> float:
    """What a pixel covers at the cube's centre, in sides of the cube, in the median over cameras."""
    middles = cameras.sizes.double() / 2
    index = torch.arange(len(cameras))
    here, beside = (cameras.unproject(middles + shift, index) for shift in (0.0, torch.tensor([1.0, 0.0])))
    angle = torch.linalg.cross(here, beside).norm(dim=1)
    distance = (cameras.positions - 0.5).norm(dim=1).clamp(min=0.3)
    return max(float((angle * distance).nanmedian()), 1e-9)
