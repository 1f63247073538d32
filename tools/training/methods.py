"""What a training method is, and which there are."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

from fieldstone.core.errors import UserError

__all__ = [
    "METHODS",
    "Method",
    "ParameterGroup",
    "SceneModel",
    "method_class",
    "optimiser_groups",
    "psnr_of",
    "radiance_groups",
    "read_settings",
]

METHODS: dict[str, str] = {
    "hash-grid": "fieldstone.tools.training.hash_grid:HashGridMethod",
    "dnmp": "fieldstone.tools.training.dnmp:DnmpMethod",
    "cam": "fieldstone.tools.training.cam:CamMethod",
    "hand": "fieldstone.tools.training.hand:HandMethod",
    "image": "fieldstone.tools.training.image:ImageMethod",
    "video": "fieldstone.tools.training.video:VideoMethod",
}
"""Name -> "module:class". `--method` also takes a "module:class" of your own."""


@dataclass
class ParameterGroup:
    """Parameters that share a learning rate."""

    name: str
    parameters: list[Tensor]
    learning_rate: float
    """Base rate; the schedule multiplies it by a factor in (0, 1]."""
    sparse: bool = False
    """True: entries whose gradient is exactly zero are left alone (hash tables)."""
    weight_decay: float = 0.0


class SceneModel(Protocol):
    """A trained scene, as rendering, evaluation and mesh export take it; all in the source frame and unit."""

    def render_view(
        self, cameras: object, index: int, *, background: object = None, normals: bool = False
    ) -> dict[str, Tensor]: ...

    def density(self, points: Tensor) -> Tensor: ...

    def colour(self, points: Tensor, directions: Tensor) -> Tensor: ...

    def occupied(self, points: Tensor) -> Tensor: ...

    def core_box(self) -> object: ...


class Method(Protocol):
    """One way to learn a capture; the loop owns what all methods have in common (docs/add_a_method.md).

    Built as `cls(capture, settings, seed=..., device=...)`. `settings` holds what the user chose; the
    attribute of that name holds all settings, defaults filled in, as plain data. An unknown key is a
    `UserError`. The constructor leaves `capture.images` alone (only `batch` reads them), so that a run can be
    rendered where its photos are not. A method may have a schedule of its own,
    `learning_rate_factor(progress, step)`; statistics beside the loss may be tensors, which are read all at once; and `devices`, the torch device types it runs on; without it, the CPU and CUDA.
    """

    name: str
    settings: dict
    exports: frozenset[str]

    def groups(self) -> list[ParameterGroup]: ...

    def before_step(self, step: int, progress: float) -> None: ...

    def batch(self, step: int) -> object: ...

    def loss(self, batch: object) -> tuple[Tensor, Mapping[str, float | Tensor]]: ...

    def state(self) -> dict[str, Tensor]: ...

    def load_state(self, state: dict[str, Tensor]) -> None: ...

    def scene(self) -> SceneModel: ...


def psnr_of(error: Tensor) -> Tensor:
    """PSNR in dB of a mean squared error (0-dimensional), on its device; 120 at most."""
    return -10 * torch.log10(error.detach().clamp(min=1e-12))


def method_class(name: str) -> type:
    """The class behind `name`: a key of `METHODS`, or "package.module:Class" of the user's own."""
    target = METHODS.get(name, name)
    module, _, attribute = target.partition(":")
    if not attribute:
        raise UserError(
            f"unknown method {name!r}; there are {', '.join(sorted(METHODS))}, or give "
            "module:Class of your own"
        )
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        if name in METHODS:
            raise
        raise UserError(f"method {name!r} cannot be imported: {error}") from error


def optimiser_groups(groups: list[ParameterGroup]) -> list[dict]:
    """The groups as `GridAdam` takes them."""
    return [
        {
            "name": group.name,
            "params": group.parameters,
            "lr": group.learning_rate,
            "sparse": group.sparse,
            "weight_decay": group.weight_decay,
        }
        for group in groups
    ]


def read_settings(kind: type, chosen: Mapping[str, object], method: str):
    """The settings dataclass `kind` with what the user chose; UserError for a name it does not have."""
    known = {item.name for item in fields(kind)}
    unknown = sorted(set(chosen) - known)
    if unknown:
        raise UserError(
            f"unknown setting {unknown[0]!r} of method {method}; there are {', '.join(sorted(known))}"
        )
    return kind(**chosen)


def radiance_groups(field, options) -> list[ParameterGroup]:
    """Hash table and heads of a `RadianceField`, at the rates of `options`; the table's gradient is added in place."""
    heads = [*field.density_head.parameters(), *field.colour_head.parameters()]
    table = field.grid.table
    table.gradient_in_place = True
    return [
        ParameterGroup("grid", [table], options.learning_rate, sparse=True),
        ParameterGroup("heads", heads, options.head_learning_rate, weight_decay=options.head_weight_decay),
    ]
