"""What only some work needs, imported where it is needed: other packages, and a package's own public names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType

from fieldstone.core.errors import UserError

__all__ = ["public_names", "require"]

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


def public_names(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` (PEP 562) of a package whose public names are imported on first use.

        __getattr__, __dir__ = public_names(__name__, {"HashGrid": ".encodings.hash_grid"})

    package: the package's `__name__`. modules: for each name the module that defines it, absolute or relative
    to the package; where it defines no such name but is called so, the module is the value. An `import` of the package then stays
    quick however much stands behind it.
    """

    def getattribute(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(modules[name], package)
        is_module = module.__name__.rpartition(".")[2] == name and not hasattr(module, name)
        value = module if is_module else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    def directory() -> list[str]:
        return sorted(set(vars(sys.modules[package])) | set(modules))

    return getattribute, directory
