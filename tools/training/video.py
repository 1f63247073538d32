"""The method "video": one video as a generator of its frames (see `fields.video`)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from fieldstone.core.errors import UserError

from ...fields.quantisation import check_bits, straight_through
from ...fields.video import FrameGenerator, generator_shape
from ..video.similarity import frame_similarity
from .methods import ParameterGroup, psnr_of, read_settings

__all__ = ["LOSSES", "VIDEO_MODELS", "VideoMethod", "VideoSettings"]

VIDEO_MODELS = ("cam", "plain")
"""With modulation, or the same generator without it."""
LOSSES = ("mixed", "mse")
"""0.7 L1 + 0.3 (1 - SSIM) (FFNeRV's), or the mean squared error, whose logarithm PSNR is."""

_BUDGET = (20_000, 3_000_000)
_OWN_WEIGHT = 0.1
"""Of the loss of frames before neighbours are joined in (FFNeRV)."""
_WARMUP = 0.1


@dataclass
class VideoSettings:
    """Everything the user may set with `--set key=value`. None: chosen from the video."""

    model: str = "cam"
    parameters: int | None = None
    """At most so many; None: 2 for each 100 pixels of all frames, between 20,000 and 3,000,000."""
    loss: str = "mixed"
    norm: bool = False
    """Over the pixels of each channel and frame, as the paper has it; see docs/video.md for what it costs short runs."""
    modulation_nodes: int = 0
    """Of cam, in time, for every channel (the paper has one for 10 to 20 frames); 0: none, which short runs are better with."""
    place_spacing: int | None = None
    """Of cam, pixels of a block's output from node to node over place; 0: none over place; None: 8, or twice,
    four times, ... that, to cost a fifth of the parameters at most."""
    place_rank: int = 4
    """Of cam, grids over place that the channels of a block share, each with weights of its own; for gamma and for beta."""
    latent_share: float = 0.2
    """Of the parameters, about."""
    compact: bool = False
    """Convolutions of each channel, then 1 x 1, instead of full ones."""
    neighbours: int = 0
    """Frames on either side that flows bring in; 0: none."""
    batch: int = 1
    """Frames a step, in an order shuffled anew each time all have been seen."""
    learning_rate: float = 0.02
    """Of weights."""
    latent_learning_rate: float | None = None
    """None: as weights."""
    grid_learning_rate: float | None = None
    """Of modulation over time; None: a tenth of the weights', since a frame comes round seldom."""
    place_learning_rate: float | None = None
    """Of modulation over place; None: as weights."""
    bits: int = 0
    """Train through this quantisation in the last part of the budget; 0: do not."""
    quantise_from: float = 0.6
    """Share of the budget from which on."""
    precision: str = "auto"
    """float32 always; it is there because every method has it."""
    backend: str = "auto"
    """There is one; it is there because every method has it."""


class VideoMethod:
    """See `methods.Method`; the capture is a `video.clip.Clip`."""

    name = "video"
    exports = frozenset({"video"})

    def __init__(self, capture, settings: dict, *, seed: int, device: str) -> None:
        self.options = options = _options(settings)
        self.clip, self.device, self.seed = capture, device, seed
        if options.parameters is None:
            pixels = capture.width * capture.height * capture.frames
            options.parameters = int(min(max(pixels // 50, _BUDGET[0]), _BUDGET[1]))
        cam = options.model == "cam"
        for name, value in (
            ("latent_learning_rate", options.learning_rate),
            ("grid_learning_rate", 0.1 * options.learning_rate),
            ("place_learning_rate", options.learning_rate),
        ):
            if getattr(options, name) is None:
                setattr(options, name, value)
        offsets = [o for o in range(-options.neighbours, options.neighbours + 1) if o]
        shape = generator_shape(
            capture.frames, capture.height, capture.width, options.parameters,
            modulation_nodes=options.modulation_nodes, norm=options.norm,
            place_spacing=options.place_spacing if cam else 0, place_rank=options.place_rank,
            compact=options.compact, neighbours=tuple(offsets), latent_share=options.latent_share,
        )  # fmt: skip
        if cam:
            options.place_spacing = shape.place_spacing
        self.settings = asdict(options)
        self.field = FrameGenerator(shape, generator=torch.Generator().manual_seed(seed)).to(device)
        self._order: tuple[int, Tensor] | None = None

    def groups(self) -> list[ParameterGroup]:
        options, field = self.options, self.field
        groups = [
            ParameterGroup("network", field.network_parameters(), options.learning_rate),
            ParameterGroup("latents", field.latent_parameters(), options.latent_learning_rate),
        ]
        for name, parameters, rate in (
            ("grids over time", field.grid_parameters(), options.grid_learning_rate),
            ("grids over place", field.place_parameters(), options.place_learning_rate),
        ):
            if parameters:
                groups.append(ParameterGroup(name, parameters, rate))
        return groups

    def learning_rate_factor(self, progress: float, step: int) -> float:
        """A rise over the first tenth, then half a cosine to zero (FFNeRV: the first fifth)."""
        rise = min(1.0, (progress + 1e-3) / _WARMUP)
        return rise * 0.5 * (1 + math.cos(math.pi * progress))

    def before_step(self, step: int, progress: float) -> None:
        on = self.options.bits and progress >= self.options.quantise_from
        self.field.quantiser = straight_through(self.options.bits) if on else None

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        numbers = self._numbers(step)
        frames = [torch.from_numpy(self.clip.frame(int(number)).copy()) for number in numbers]
        pixels = torch.stack(frames).to(self.device).permute(0, 3, 1, 2).float() / 255
        return numbers.to(self.device), pixels

    def _numbers(self, step: int) -> Tensor:
        """The frames of a step: the next ones of a shuffle that follows from seed and round, so that a resume needs no state."""
        count, size = self.clip.frames, min(self.options.batch, self.clip.frames)
        numbers = []
        for place in range(step * size, (step + 1) * size):
            number, within = divmod(place, count)
            if self._order is None or self._order[0] != number:
                generator = torch.Generator().manual_seed((self.seed * 1_000_003 + number) % (1 << 63))
                self._order = number, torch.randperm(count, generator=generator)
            numbers.append(self._order[1][within])
        return torch.stack(numbers)

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, float]]:
        numbers, target = batch
        frames, own = self.field.frames_and_own(numbers)
        loss = self._distance(frames, target)
        if own is not frames:
            loss = loss + _OWN_WEIGHT * self._distance(own, target)
        error = (frames.detach() - target).square().mean()
        pixels = target[:, 0].numel()
        return loss, {
            "psnr": psnr_of(error),
            "rays": pixels,
            "samples": pixels,
        }

    def _distance(self, frames: Tensor, target: Tensor) -> Tensor:
        if self.options.loss == "mse":
            return (frames - target).square().mean()
        similarity = frame_similarity(frames, target)
        return 0.7 * (frames - target).abs().mean() + 0.3 * (1 - similarity)

    def state(self) -> dict[str, Tensor]:
        return {f"field.{name}": value.detach() for name, value in self.field.state_dict().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.field.load_state_dict(
            {name[6:]: value for name, value in state.items() if name.startswith("field.")}
        )

    def scene(self):
        from ..video.view import VideoScene

        return VideoScene(self.field, self.clip, self.device)

    def packing(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What is quantised (weights, latents and grids), and what is kept exact (biases)."""
        learned = dict(self.field.named_parameters())
        exact = {name: value for name, value in learned.items() if name.endswith("bias")}
        return {name: value for name, value in learned.items() if name not in exact}, exact

    def unpacked(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """A state for `load_state` from the tensors of a packed file."""
        self.field.load_state_dict(tensors)
        return self.state()


def _options(settings: dict) -> VideoSettings:
    options = read_settings(VideoSettings, settings, "video")
    if options.model not in VIDEO_MODELS:
        raise UserError(f"unknown video model {options.model!r}; there are {', '.join(VIDEO_MODELS)}")
    if options.loss not in LOSSES:
        raise UserError(f"unknown loss {options.loss!r}; there are {', '.join(LOSSES)}")
    if options.bits:
        check_bits(options.bits)
    if options.batch < 1 or not 0 <= options.neighbours <= 4:
        raise UserError(
            f"batch {options.batch}, neighbours {options.neighbours}: a batch has at least 1 frame, and 0 to 4 neighbours "
            "on either side are joined in"
        )
    nodes, spacing = options.modulation_nodes, options.place_spacing
    if not isinstance(nodes, int) or not (nodes == 0 or 2 <= nodes <= 1 << 20):
        raise UserError(f"modulation_nodes {nodes!r}: give 0 for none, or at least 2")
    if spacing is not None and spacing not in range(257):
        raise UserError(f"place_spacing {spacing!r}: give 0 for none, or 1 to 256 pixels")
    if options.place_rank not in range(1, 65):
        raise UserError(f"place_rank {options.place_rank!r}: give 1 to 64 grids")
    if options.model == "plain" and (nodes or spacing):
        raise UserError("model plain has no modulation; leave modulation_nodes and place_spacing out")
    if options.model == "cam" and nodes == 0 and spacing == 0:
        raise UserError("model cam without modulation_nodes and place_spacing is model plain; say so")
    if not 0 < options.latent_share < 1:
        raise UserError(f"latent_share {options.latent_share}: must lie between 0 and 1")
    return options
