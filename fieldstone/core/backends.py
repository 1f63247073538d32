"""One way to choose between a reference and its fast kernels.

A `Backends` table belongs to one operation (hash grid, marching, ...). Each entry names an implementation,
says on which device types it runs, why it might be missing, and how to import it. The first entry that runs
on a device wins under "auto", so entries are registered fastest first and the reference last.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType

from fieldstone.core.errors import UserError

__all__ = ["Backend", "Backends", "chosen", "missing_module"]


@dataclass(frozen=True)
class Backend:
    """One implementation of an operation."""

    name: str
    module: str
    """Dotted name of the module that implements it, imported on first use."""
    devices: tuple[str, ...]
    """Torch device types it runs on, e.g. ("cpu",)."""
    unavailable: Callable[[], str | None] = lambda: None
    """Returns why it cannot run here, or None when it can."""


@dataclass
class Backends:
    """The implementations of one operation, fastest first."""

    operation: str
    entries: list[Backend] = field(default_factory=list)

    def add(self, backend: Backend) -> None:
        self.entries.append(backend)

    def names(self) -> list[str]:
        return [entry.name for entry in self.entries]

    def available(self, device: str | None = None) -> list[str]:
        """Names of those that can run here (on `device`, a torch device type, if given)."""
        return [
            entry.name
            for entry in self.entries
            if (device is None or device in entry.devices) and entry.unavailable() is None
        ]

    def resolve(self, name: str, device: str) -> str:
        """The name behind `name`, which may be "auto"; refuses one that cannot run on `device`, saying why."""
        if name == "auto":
            names = self.available(device)
            if not names:
                raise UserError(f"{self.operation}: no back end runs on device {device!r} here; use the CPU")
            return names[0]
        for entry in self.entries:
            if entry.name == name:
                if device not in entry.devices:
                    raise UserError(
                        f"{self.operation}: back end {name!r} runs on {'/'.join(entry.devices)}, not on {device}"
                    )
                why = entry.unavailable()
                if why is not None:
                    raise UserError(f"{self.operation}: back end {name!r} cannot run here: {why}")
                return name
        raise UserError(
            f"{self.operation}: unknown back end {name!r}; there are auto, {', '.join(self.names())}"
        )

    def load(self, name: str, device: str) -> ModuleType:
        """The module of back end `name` ("auto" allowed) for `device`; remembers the choice for `chosen`."""
        resolved = self.resolve(name, device)
        _CHOSEN[self.operation] = resolved
        entry = next(entry for entry in self.entries if entry.name == resolved)
        return importlib.import_module(entry.module)


_CHOSEN: dict[str, str] = {}


def chosen() -> dict[str, str]:
    """Which back end each operation last used, for the one line a run prints."""
    return dict(_CHOSEN)


def missing_module(name: str) -> Callable[[], str | None]:
    """An `unavailable` check: the reason when module `name` is not installed (it is not imported)."""

    def why() -> str | None:
        return None if importlib.util.find_spec(name) is not None else f"{name} is not installed"

    return why
