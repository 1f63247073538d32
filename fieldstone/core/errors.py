"""Errors a person can act on."""

from __future__ import annotations

__all__ = ["UserError"]


class UserError(Exception):
    """A mistake in what the user gave us: one line that says what, where, the value, and what to do.

    Commands print the message without a traceback and leave with exit code 2 (`--debug` shows the traceback).
    """
