"""The back ends of the hash grid that can run here, called alike."""

import importlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from fieldstone.fields.encodings.hash_grid import HASH_GRID

if not torch.cuda.is_available():
    # Triton's interpreter runs its kernels on the CPU; Triton must find this set when it is imported.
    os.environ["TRITON_INTERPRET"] = "1"


@dataclass
class GridBackend:
    name: str
    device: str
    encode: Callable

    def run(self, x, table, levels, interpolation="linear", dy=None):
        """Values, and with dy also the gradients by table and x, as CPU tensors."""
        inputs = x.detach().to(self.device, copy=True).requires_grad_()
        weights = table.detach().to(self.device, copy=True).requires_grad_()
        y = self.encode(inputs, weights, levels, interpolation)
        if dy is None:
            return y.detach().cpu()
        y.backward(dy.to(y))
        return y.detach().cpu(), weights.grad.cpu(), inputs.grad.cpu()


@pytest.fixture(params=HASH_GRID.names())
def grid_backend(request) -> GridBackend:
    name = request.param
    device = "cpu"
    if name == "cuda":
        if importlib.util.find_spec("triton") is None:
            pytest.skip("triton is not installed")
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "tcnn":
        if not torch.cuda.is_available() or importlib.util.find_spec("tinycudann") is None:
            pytest.skip("tinycudann needs an NVIDIA GPU and a build; test_hash_tcnn.py has a stand-in")
        device = "cuda"
    module = importlib.import_module(f"fieldstone.fields.encodings.hash_{name}")
    return GridBackend(name, device, module.encode)
