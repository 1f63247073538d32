"""A perceptron whose hidden layers are scaled and shifted at the sample's coordinate: x = act(gamma(c) norm(Wx + b) + beta(c)).

Lee et al. 2024 (CAM), equations 1 and 4; see `grids` for the look-up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fieldstone.core.backends import Backend, Backends
from fieldstone.core.errors import UserError

from ..mlp.mlp import has_bfloat16
from .grids import CoordinateModulation
from .layers_reference import modulate, normalise

__all__ = ["NORMS", "PERCEPTRON", "CamMlp"]

NORMS = ("none", "layer", "ray", "instance", "batch")

PERCEPTRON = Backends("modulated mlp")
PERCEPTRON.add(Backend("cpu", "fieldstone.fields.modulation.layers_cpu", ("cpu",)))
PERCEPTRON.add(Backend("reference", "fieldstone.fields.modulation.layers_reference", ("cpu", "cuda")))

PERCEPTRON_BFLOAT16 = Backends("bfloat16 modulated mlp")
PERCEPTRON_BFLOAT16.add(
    Backend(
        "cpu",
        "fieldstone.fields.modulation.layers_cpu_bfloat16",
        ("cpu",),
        unavailable=lambda: None if has_bfloat16() else "this CPU has no AVX-512 BF16",
    )
)
PERCEPTRON_BFLOAT16.add(Backend("cuda", "fieldstone.fields.modulation.layers_bfloat16", ("cuda",)))

_MOMENTUM = 0.1


class CamMlp(nn.Module):
    """Linear layers with ReLU between them; hidden ones are normalised and modulated before the ReLU, the output never is.

    The encoder stands in front: the module takes whatever a frequency, random Fourier, integrated or hash-grid encoding gives.
    Without modulation and norm it is the plain perceptron bit for bit (without biases, `mlp.Mlp`).

    `norm` takes no parameters of its own. "layer" (our default where there is one) looks at one sample; "ray" and "instance" couple
    the samples of a group and "batch" those of a batch in training, see `couples_samples`.

    Weights and biases start uniform in +-1 / sqrt(inputs), torch's rule. The fused CPU kernel takes norms "none" and "layer"
    and no skip; other shapes run in plain torch. `precision` "bfloat16" needs a GPU, or that kernel and a CPU with
    AVX-512 BF16 (`mlp.has_bfloat16`); parameters stay float32.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        hidden_layers: int,
        outputs: int,  # 0: no output layer, the last hidden layer is the result
        *,
        modulation: CoordinateModulation | None = None,
        modulated: Sequence[int] | None = None,  # hidden layers that are; None: all, from 0
        norm: str = "none",
        skip: int | None = None,  # behind hidden layer `skip` the input is joined on again (Mip-NeRF: 4)
        bias: bool = True,
        precision: str = "float32",  # "bfloat16": of the fused kernel's products, on CPUs that have it
        backend: str = "auto",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise UserError(f"modulated mlp: unknown norm {norm!r}; there are {', '.join(NORMS)}")
        if hidden_layers < 1 or outputs < 0:
            raise UserError(
                f"modulated mlp: {hidden_layers} hidden layers, {outputs} outputs; at least 1 and 0"
            )
        if skip is not None and not 0 <= skip < hidden_layers - 1:
            raise UserError(f"modulated mlp: skip {skip} must lie in 0 to {hidden_layers - 2}")
        chosen = tuple(range(hidden_layers)) if modulated is None else tuple(modulated)
        if len(set(chosen)) != len(chosen) or any(not 0 <= layer < hidden_layers for layer in chosen):
            raise UserError(f"modulated mlp: modulated layers {chosen} of {hidden_layers} hidden ones")
        if modulation is not None:
            if modulation.layers != len(chosen):
                raise UserError(
                    f"modulated mlp: modulation has {modulation.layers} layers for {len(chosen)} of the perceptron"
                )
            if hidden % modulation.channels:
                raise UserError(
                    f"modulated mlp: modulation has {modulation.channels} channels; give a divisor of the width {hidden}"
                )
        self.modulation, self.norm, self.skip, self.backend = modulation, norm, skip, backend
        self.precision = precision
        self.hidden_layers, self.outputs = hidden_layers, outputs
        self.groups = 1 if modulation is None else modulation.channels
        """Runs of channels of a layer that share a scale and shift."""
        self.rows = [-1] * hidden_layers
        if modulation is not None:
            for position, layer in enumerate(chosen):
                self.rows[layer] = 2 * position * modulation.channels
        """Where the values of each hidden layer stand in what the modulation looks up; -1: not modulated."""
        sizes = [inputs, *[hidden] * hidden_layers, *([outputs] if outputs else [])]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for number, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            if skip is not None and number == skip + 1:
                fan_in += inputs
            bound = 1 / math.sqrt(fan_in)
            self.weights.append(nn.Parameter(_uniform((fan_out, fan_in), bound, generator)))
            if bias:
                self.biases.append(nn.Parameter(_uniform((fan_out,), bound, generator)))
        if norm == "batch":
            self.register_buffer("mean", torch.zeros(hidden_layers, hidden))
            self.register_buffer("variance", torch.ones(hidden_layers, hidden))
        self.quantiser: Callable[[Tensor], Tensor] | None = None
        """Applied to weights and grids (not biases) where they are used: `quantisation.straight_through`, or None."""

    @property
    def couples_samples(self) -> bool:
        """Whether a sample's result depends on the others it comes with, so that it is no function of position alone."""
        return self.norm in ("ray", "instance") or (self.norm == "batch" and self.training)

    @property
    def fused(self) -> bool:
        """Whether the CPU kernel can run this shape."""
        return self.norm in ("none", "layer") and self.skip is None and self.outputs > 0

    def grid_parameters(self) -> list[nn.Parameter]:
        """The modulation's grids, which learn at a rate of their own; `ValueError` if there is no modulation."""
        if self.modulation is None:
            raise ValueError("a perceptron without modulation has no grids")
        return list(self.modulation.parameters())

    def mlp_parameters(self) -> list[nn.Parameter]:
        """Weights and biases."""
        return [*self.weights, *self.biases]

    def look_up(self, coordinates: Tensor) -> Tensor | None:
        """What `forward` takes as `packed`: scales and shifts at coordinates (n, d); None without modulation."""
        if self.modulation is None:
            return None
        grids = None if self.quantiser is None else [self.quantiser(grid) for grid in self.modulation.grids]
        return self.modulation(coordinates, grids)

    def forward(
        self,
        x: Tensor,  # (n, inputs), or (n, inputs - s) with shared
        coordinates: Tensor | None = None,  # (n, d) in [0, 1]; not needed with packed or without modulation
        *,
        packed: Tensor | None = None,  # (n, j) of `look_up`
        groups: Tensor
        | None = None,  # (n,) int64 rising from 0: the ray or frame of each sample, for those norms
        shared: Tensor | None = None,  # (m, s) inputs common to several samples
        index: Tensor | None = None,  # (n,) int32 rows of shared
        outputs: int | None = None,  # only the first so many
    ) -> Tensor:  # (n, outputs), or (n, hidden) without an output layer
        """Differentiable with respect to x, coordinates, packed and parameters; to shared only with the reference back end."""
        if packed is None and self.modulation is not None:
            if coordinates is None:
                raise ValueError("a modulated perceptron needs coordinates")
            packed = self.look_up(coordinates)
        weights = [self.quantiser(w) for w in self.weights] if self.quantiser else list(self.weights)
        biases = list(self.biases)
        if outputs is not None:
            weights[-1] = weights[-1][:outputs]
            biases[-1:] = [bias[:outputs] for bias in biases[-1:]]
        name = self._backend_name(x.device.type)
        if self.fused:
            half = self.precision == "bfloat16" and name != "reference"
            table = PERCEPTRON_BFLOAT16 if half else PERCEPTRON
            return table.load(name, x.device.type).perceptron(
                x, tuple(weights), tuple(biases) or None, packed, tuple(self.rows), self.norm, shared, index, self.groups,
            )  # fmt: skip
        PERCEPTRON.load("reference", x.device.type)
        if shared is not None:
            x = torch.cat([x, shared[index.long()]], dim=1)
        return self._any_shape(x, weights, biases, packed, groups)

    def _backend_name(self, device: str) -> str:
        if self.backend == "cpu" and not self.fused:
            raise UserError("modulated mlp: back end cpu takes norms none and layer and no skip; use auto")
        return self.backend

    def _any_shape(
        self,
        x: Tensor,
        weights: list[Tensor],
        biases: list[Tensor],
        packed: Tensor | None,
        groups: Tensor | None,
    ) -> Tensor:
        inputs = x
        for number, weight in enumerate(weights):
            x = x @ weight.t()
            if biases:
                x = x + biases[number]
            if number == self.hidden_layers:
                break
            x = normalise(x, self.norm, groups, self._statistics(x, number))
            row = self.rows[number]
            if row >= 0 and packed is not None:
                x = modulate(x, packed[:, row : row + 2 * self.groups], self.groups)
            x = torch.relu(x)
            if number == self.skip:
                x = torch.cat([x, inputs], dim=1)
        return x

    def _statistics(self, h: Tensor, layer: int) -> tuple[Tensor, Tensor] | None:
        """Running ones in evaluation; in training None, and the running ones follow."""
        if self.norm != "batch":
            return None
        if not self.training:
            return self.mean[layer], self.variance[layer]
        with torch.no_grad():
            self.mean[layer].lerp_(h.mean(0), _MOMENTUM)
            self.variance[layer].lerp_(h.var(0, unbiased=len(h) > 1), _MOMENTUM)
        return None


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator | None) -> Tensor:
    return (torch.rand(shape, generator=generator) * 2 - 1) * bound
