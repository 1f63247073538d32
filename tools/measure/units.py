"""Units of length: the names a user may write, the factors between them, and what an extent suggests.

A cloud's numbers mean nothing without a unit, so every cloud and result carries one. `None` stands for "not known": fits are
possible, verdicts are not.
"""

from __future__ import annotations

from fieldstone.core.errors import UserError

__all__ = ["UNITS", "conversion", "parse_unit", "suggestion"]

UNITS = {"mm": 1e-3, "m": 1.0, "um": 1e-6, "inch": 0.0254}
"""Metres in one of each unit."""

_ALIASES = {
    "millimetre": "mm",
    "millimeter": "mm",
    "metre": "m",
    "meter": "m",
    "micrometre": "um",
    "micrometer": "um",
    "micron": "um",
    "µm": "um",
    "μm": "um",
    "in": "inch",
    '"': "inch",
}
_SMALLEST_PART, _LARGEST_PART = 1e-3, 20.0  # metres: what lies outside is seldom a machined part


def parse_unit(text: str | None) -> str | None:
    """One of `UNITS` from what a user wrote ("Micron", "millimetres", "in"); None stays None.

    Raises `UserError` for anything else.
    """
    if text is None:
        return None
    name = text.strip().lower()
    for candidate in (name, name.removesuffix("s"), name.removesuffix("es")):
        candidate = _ALIASES.get(candidate, candidate)
        if candidate in UNITS:
            return candidate
    raise UserError(f"unit {text!r} is not known: give one of {', '.join(UNITS)}")


def conversion(unit: str, other: str) -> float:
    """What a length in `unit` is multiplied by to be in `other`."""
    return UNITS[unit] / UNITS[other]


def suggestion(extent: float) -> str:
    """What a part's largest extent, a bare number, suggests about its unit: a phrase for a message."""
    likely = [u for u in ("mm", "m", "um", "inch") if _SMALLEST_PART <= extent * UNITS[u] <= _LARGEST_PART]
    if not likely:
        return f"the part spans {extent:.4g}, which no usual unit explains"
    spans = ", ".join(f"{extent * UNITS[u] * 1e3:.4g} mm if {u}" for u in likely)
    return f"the part spans {extent:.4g} ({spans})"
