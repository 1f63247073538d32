"""Ctrl-C and SIGTERM that end a step rather than the work."""

from __future__ import annotations

import signal
import threading
from types import FrameType

__all__ = ["Interrupt"]


class Interrupt:
    """While entered, the first SIGINT or SIGTERM only sets `signal`; a second SIGINT interrupts.

    Signals reach the main thread only, so in any other thread this does nothing and `signal` stays None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        """The number of the signal that came, or None."""
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._came)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _came(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
