"""The method "image": one picture as a field (see `fields.image`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from fieldstone.core.errors import UserError

from ...fields.image import ImageField, head_width
from ...fields.quantisation import check_bits, straight_through
from .checkpoint import prefixed, restore_generator, select
from .methods import ParameterGroup, psnr_of, read_settings

__all__ = ["PROTOCOLS", "ImageMethod", "ImageSettings", "trained_pixels"]

PROTOCOLS = ("regression", "generalisation")
"""Train on every pixel, or on every second one of each axis and measure on the others."""

_BUDGET = (4_000, 70_000)
_TABLE_DECAY = 1e-6
"""Weight decay of a hash table: without it a few values grow far beyond the others in long trainings, and quantisation in even steps loses 0.4 to
2 dB at 7 bits where it loses 0.05 with it (ours, measured)."""
_FEW = 0.1
"""Share of all numbers up to which a tensor is packed finely."""


@dataclass
class ImageSettings:
    """Everything the user may set with `--set key=value`. None: chosen from the picture."""

    model: str = "cam"
    parameters: int | None = None
    """At most so many; None: a quarter of the pixels, between 4,000 and 70,000."""
    protocol: str = "regression"
    norm: str = "layer"
    head: int = 64
    """Width of the hash grid's perceptron; 0: by the budget, which is what new runs ask for (earlier ones say nothing and have 64)."""
    batch: int = 1 << 14
    """Pixels a step; all of them where the picture has no more."""
    learning_rate: float | None = None
    """Of the perceptron; None: 0.004 for Fourier features, 0.01 for the hash grid's head."""
    grid_learning_rate: float | None = None
    """Of modulation grids or the hash table; None: 10 times the perceptron's, or 0.05."""
    weight_decay: float | None = None
    """Of the perceptron; None: 0.0001 where a norm follows its layers, else 0. Behind a norm it takes nothing away, keeps the rate from fading as
    weights grow, and makes weights that lose less to quantisation; without a norm it costs 2 dB (ours, measured)."""
    bits: int = 0
    """Train through this quantisation in the last part of the budget; 0: do not."""
    quantise_from: float = 0.6
    """Share of the budget from which on."""
    backend: str = "auto"
    precision: str = "auto"
    """float32 always; it is there because every method has it."""


class ImageMethod:
    """See `methods.Method`; the capture is an `images.picture.Picture`."""

    name = "image"
    exports = frozenset({"image"})

    def __init__(self, capture, settings: dict, *, seed: int, device: str) -> None:
        self.options = options = _options(settings)
        self.picture, self.device = capture, device
        pixels = capture.width * capture.height
        if options.parameters is None:
            options.parameters = int(min(max(pixels // 4, _BUDGET[0]), _BUDGET[1]))
            if options.model == "hash-grid":
                options.parameters = max(options.parameters, 8_000)
        options.head = options.head or head_width(options.parameters)
        hashed = options.model == "hash-grid"
        if options.learning_rate is None:
            options.learning_rate = 1e-2 if hashed else 4e-3
        if options.grid_learning_rate is None:
            options.grid_learning_rate = 5e-2 if hashed else 10 * options.learning_rate
        if options.weight_decay is None:
            options.weight_decay = 1e-4 if options.model == "cam" and options.norm == "layer" else 0.0
        self.settings = asdict(options)
        # the frequencies are not learned: they come from the seed alone, on the CPU, so a packed file need not hold them
        self.field = ImageField(
            options.model, capture.width, capture.height, options.parameters, norm=options.norm, head=options.head,
            backend=options.backend, generator=torch.Generator().manual_seed(seed),
        ).to(device)  # fmt: skip
        self.generator = torch.Generator(device=device).manual_seed(seed)
        self._places: Tensor | None = None
        self._target: Tensor | None = None

    def groups(self) -> list[ParameterGroup]:
        options, grids = self.options, self.field.grid_parameters()
        sparse = options.model == "hash-grid"
        for grid in grids:
            grid.gradient_in_place = sparse
        groups = [
            ParameterGroup(
                "mlp", self.field.mlp_parameters(), options.learning_rate, weight_decay=options.weight_decay
            )
        ]
        if grids:
            decay = _TABLE_DECAY if sparse else 0.0
            group = ParameterGroup(
                "grids", grids, options.grid_learning_rate, sparse=sparse, weight_decay=decay
            )
            groups.insert(0, group)
        return groups

    def before_step(self, step: int, progress: float) -> None:
        on = self.options.bits and progress >= self.options.quantise_from
        if self.options.model != "hash-grid":
            self.field.mlp.quantiser = self._through if on else None

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        if self._target is None:
            self._places, self._target = self._pixels()
        if len(self._target) <= self.options.batch:
            return self._places, self._target
        drawn = torch.randint(
            len(self._target), (self.options.batch,), generator=self.generator, device=self.device
        )
        return self._places[drawn], self._target[drawn]

    def _pixels(self) -> tuple[Tensor, Tensor]:
        """Places and colours of all pixels that training sees, on the device."""
        picture = self.picture
        index = np.flatnonzero(trained_pixels(picture.height, picture.width, self.options.protocol))
        target = torch.from_numpy(picture.target.reshape(-1, 3)[index]).to(self.device)
        index = torch.from_numpy(index).to(self.device)
        row, column = index // picture.width, index % picture.width
        places = torch.stack([(column + 0.5) / picture.width, (row + 0.5) / picture.height], dim=1)
        return places, target

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, float]]:
        places, target = batch
        error = (self.field(places) - target).square().mean()
        return 0.5 * error, {
            "psnr": psnr_of(error),
            "rays": len(places),
            "samples": len(places),
        }

    def state(self) -> dict[str, Tensor]:
        return prefixed("field.", self.field.state_dict()) | {"generator": self.generator.get_state()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.field.load_state_dict(select(state, "field."))
        restore_generator(self.generator, state["generator"])
        self.field.eval()

    def scene(self):
        from ..images.view import ImageScene

        return ImageScene(self.field, self.picture, self.device)

    def packing(self) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        """What is quantised (weights or the hash table), what is kept exact (nothing), and what is quantised finely: biases, modulation grids, the
        last layer, the hash grid's perceptron. A bit less of those costs more PSNR a byte than one of the others (ours, measured)."""
        learned = dict(self.field.named_parameters())
        fine = {name: value for name, value in learned.items() if self._fine(name, value)}
        return {name: value for name, value in learned.items() if name not in fine}, {}, fine

    @property
    def fine_bits(self) -> int:
        """Of what is quantised finely. A perceptron behind a hash grid is a large part of a small file, and 11 bits give it nothing over 9."""
        return 9 if self.options.model == "hash-grid" else 11

    def _fine(self, name: str, values: Tensor) -> bool:
        if self.options.model == "hash-grid":
            return name != "encoding.table"
        return ".biases." in name or self._few(values)

    def _few(self, values: Tensor) -> bool:
        return values.numel() <= _FEW * self.field.parameters_count()

    def _through(self, values: Tensor) -> Tensor:
        """What training sees of weights and grids: those that are packed coarsely as they will be, the others as they are."""
        return values if self._few(values) else straight_through(self.options.bits)(values)

    def unpacked(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """A state for `load_state` from the tensors of a packed file."""
        missing = set(dict(self.field.named_parameters())) - set(tensors)
        if missing:
            raise KeyError(f"{sorted(missing)[0]} is missing")
        self.field.load_state_dict(tensors, strict=False)
        return self.state()


def trained_pixels(height: int, width: int, protocol: str) -> np.ndarray:
    """(h, w) bool: the pixels that training sees."""
    seen = np.ones((height, width), bool)
    if protocol == "generalisation":
        seen[1::2] = False
        seen[:, 1::2] = False
    return seen


def _options(settings: dict) -> ImageSettings:
    options = read_settings(ImageSettings, settings, "image")
    if options.protocol not in PROTOCOLS:
        raise UserError(f"unknown protocol {options.protocol!r}; there are {', '.join(PROTOCOLS)}")
    if options.bits:
        check_bits(options.bits)
        if options.model == "hash-grid":
            raise UserError("bits: the hash grid is quantised after training only; leave bits at 0")
    return options
