"""Adam that leaves untouched entries alone, after tiny-cuda-nn (its optimizers/adam.h) and Kingma & Ba 2015, algorithm 1.

Most rows of a hash table get no gradient in a given step. In a sparse group an entry whose gradient is exactly zero
keeps its value, its moments and its own step count, so that neither stale momentum nor the wrong bias correction
moves it. Dense groups follow plain Adam (with L2 weight decay if asked), every entry counting every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fieldstone.core.backends import Backend, Backends, missing_module
from fieldstone.core.memory import zeros_in_large_pages

__all__ = ["ADAM", "MOST_COUNTED", "AdamState", "GridAdam", "bias_corrections"]

ADAM = Backends("adam")
ADAM.add(Backend("cuda", "fieldstone.fields.optim.adam_cuda", ("cuda",), missing_module("triton")))
ADAM.add(Backend("cpu", "fieldstone.fields.optim.adam_cpu", ("cpu",)))
ADAM.add(Backend("reference", "fieldstone.fields.optim.adam_reference", ("cpu", "cuda")))
ADAM.add(Backend("foreach", "fieldstone.fields.optim.adam_foreach", ("cpu", "cuda")))
"""The dense parameters of a group together; on a GPU it is taken for them, and `cuda` for sparse ones."""

MOST_COUNTED = 32767
"""Updates that an entry's count goes up to."""


@dataclass
class AdamState:
    """Moments and step counts of one parameter, each of its shape."""

    first: Tensor
    second: Tensor
    count: Tensor
    """int16: updates each entry has had, `MOST_COUNTED` for more."""


def bias_corrections(betas: tuple[float, float]) -> Tensor:
    """(k, 2) float32: 1/(1 - beta1^t) and 1/(1 - beta2^t) for t = 0 (unused, 1) .. k - 1, up to where both are 1 in float32."""
    length = 2
    while max(betas) ** length > 2**-26:
        length *= 2
    steps = torch.arange(length, dtype=torch.float64)
    table = torch.stack([1 / (1 - beta**steps) for beta in betas], dim=1)
    table[0] = 1
    return table.float().contiguous()


class GridAdam:
    """Adam over groups `{"params": [Tensor], "lr": float, "sparse": bool, "weight_decay": float}`.

    `step(lr_factor)` updates every parameter that has a gradient with learning rate `lr * lr_factor` and sets the gradient to
    zero in place (the buffer stays, which is what `gradient_in_place` of the CPU hash grid adds into). Parameters are
    float32 and contiguous. The default eps is tiny because grid gradients are 1e-9 to 1e-5.
    """

    def __init__(
        self,
        groups: Sequence[dict],
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-15,
        backend: str = "auto",
    ) -> None:
        if not all(0 <= beta <= 0.999 for beta in betas):  # counts are 16 bits wide
            raise ValueError(f"betas must lie in [0, 0.999], got {betas}")
        self.groups = [{"sparse": False, "weight_decay": 0.0, **group} for group in groups]
        for number, group in enumerate(self.groups):
            if not group["params"]:
                raise ValueError(f"parameter group {group.get('name', number)!r} is empty")
        self.betas, self.eps = betas, eps
        self._backend = backend
        self._corrections = {torch.device("cpu"): bias_corrections(betas)}
        self._dense_steps: dict[int, int] = {}
        """Of parameters of dense groups on a GPU, by position: updates they have had. Their counts are not read for it in every step."""
        self._states = [
            AdamState(
                _zeros(p, torch.float32),
                _zeros(p, torch.float32),
                _zeros(p, torch.int16),
            )
            for group in self.groups
            for p in group["params"]
        ]

    def step(self, lr_factor: float = 1.0) -> None:
        """One update from the gradients now present, which become zero."""
        number = 0
        for group in self.groups:
            together: dict[int, list[tuple[Tensor, AdamState]]] = {}
            for parameter in group["params"]:
                state = self._states[number]
                number += 1
                if parameter.grad is None:
                    continue
                if self._in_one_launch(group, parameter):
                    together.setdefault(self._step_of(number - 1), []).append((parameter, state))
                    continue
                name = "reference" if self._backend == "foreach" else self._backend
                module = ADAM.load(name, parameter.device.type)
                module.update(
                    parameter.detach(),
                    parameter.grad,
                    state,
                    lr=group["lr"] * lr_factor,
                    betas=self.betas,
                    eps=self.eps,
                    weight_decay=group["weight_decay"],
                    sparse=group["sparse"],
                    corrections=self._corrections_on(parameter.device),
                )
            for steps, members in together.items():
                ADAM.load("foreach", members[0][0].device.type).update(
                    [parameter.detach() for parameter, _ in members],
                    [parameter.grad for parameter, _ in members],
                    [state for _, state in members],
                    steps=steps,
                    lr=group["lr"] * lr_factor,
                    betas=self.betas,
                    eps=self.eps,
                    weight_decay=group["weight_decay"],
                    corrections=self._corrections_on(torch.device("cpu")),
                )

    def _in_one_launch(self, group: dict, parameter: Tensor) -> bool:
        chosen = self._backend == "foreach" or (self._backend == "auto" and parameter.is_cuda)
        return chosen and not group["sparse"]

    def _step_of(self, number: int) -> int:
        """The number of the update that the parameter of that position now gets; all its entries have the same."""
        if number not in self._dense_steps:
            count = self._states[number].count
            self._dense_steps[number] = int(count.flatten()[0]) if count.numel() else 0
        self._dense_steps[number] += 1
        return self._dense_steps[number]

    def _corrections_on(self, device: torch.device) -> Tensor:
        if device not in self._corrections:
            self._corrections[device] = self._corrections[torch.device("cpu")].to(device)
        return self._corrections[device]

    def zero_grad(self) -> None:
        """Sets every gradient to zero without an update (a step that is skipped)."""
        for group in self.groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.zero_()

    def state(self) -> dict[str, Tensor]:
        """Everything an exact resume needs, as plain tensors named by position."""
        result = {}
        for number, state in enumerate(self._states):
            result[f"{number}.first"] = state.first
            result[f"{number}.second"] = state.second
            result[f"{number}.count"] = state.count
        return result

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restores `state()`; a missing tensor or another shape raises ValueError naming it."""
        self._dense_steps.clear()
        for number, state in enumerate(self._states):
            for name in ("first", "second", "count"):
                target, source = getattr(state, name), tensors.get(f"{number}.{name}")
                if source is None or source.shape != target.shape:
                    found = "nothing" if source is None else tuple(source.shape)
                    raise ValueError(
                        f"optimiser state {number}.{name}: wanted {tuple(target.shape)}, found {found}"
                    )
                target.copy_(source)


def _zeros(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    return zeros_in_large_pages(parameter.shape, dtype).to(parameter.device)
