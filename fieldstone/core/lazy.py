"""Packages that only some work needs, imported where they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from fieldstone.core.errors import UserError

__all__ = ["require"]

_SYSTEM_HINT = {"open3d": " (on Debian and Ubuntu it also needs: apt install libusb-1.0-0 libgl1)"}


def require(module: str, extra: str | None = None, purpose: str | None = None) -> ModuleType:
    """Imports `module`, or raises a `UserError` that says which install command brings it.

    `extra` is the extra of ours that holds it (None: the package's own name is given to pip);
    `purpose` is what it is wanted for, e.g. "placing photos".
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        command = f'pip install "fieldstone[{extra}]"' if extra else f"pip install {package}"
        why = f" for {purpose}" if purpose else ""
        raise UserError(
            f"{package} is needed{why} and cannot be imported ({error}): {command}{_SYSTEM_HINT.get(package, '')}"
        ) from error
