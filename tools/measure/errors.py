"""The error of a measurement that the data cannot support."""

from __future__ import annotations

from fieldstone.core.errors import UserError

__all__ = ["NotMeasurable"]


class NotMeasurable(UserError):
    """The input is readable, but what was asked for cannot be measured in it: exit code 4.

    The message carries the number that fell short and the next step, as every `UserError` does.
    """
