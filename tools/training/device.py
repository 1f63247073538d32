"""Where a run computes."""

from __future__ import annotations

import os
import platform

from fieldstone.core.errors import UserError

__all__ = ["machine", "resolve_device"]


def resolve_device(name: str, *, fall_back: bool = False, method: type | None = None) -> str:
    """The torch device type for "auto", "cpu" or "cuda"; without a GPU, "cuda" is refused or falls back.

    method: the class of a training method; "auto" gives one that says `devices = ("cpu",)` the CPU, and "cuda" is refused."""
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device {name!r}; there are auto, cpu, cuda")
    if name == "cpu" or "cuda" not in getattr(method, "devices", ("cpu", "cuda")):
        if name == "cuda":
            raise UserError(f"device cuda: method {method.name} runs on the CPU so far; use --device cpu")
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda" and not fall_back:
        raise UserError("device cuda: torch finds no usable NVIDIA GPU here; use --device cpu")
    return "cpu"


def machine() -> dict[str, str]:
    """What a report or a benchmark says of the machine and the versions, as plain data."""
    import numba
    import numpy
    import torch

    import fieldstone

    facts = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "fieldstone": fieldstone.__version__,
        "torch": torch.__version__,
        "numba": numba.__version__,
        "numpy": numpy.__version__,
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name(0)
    return facts


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux: the platform module's word is all there is
    return platform.processor() or "unknown"
