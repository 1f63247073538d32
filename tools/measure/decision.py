"""In tolerance, out of it, or not decided: the rule of ISO 14253-1.

A measured value proves conformity when its whole uncertainty interval lies within the limits, and non-conformity when it lies outside.
In between nothing is proven, and saying so is the honest verdict. The interval is value +- k u, with k = 2 unless the plan says
otherwise, extended downwards by `bias` where noise is known to enlarge what was measured (a zone holds the extremes of the noise).
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["ACCEPT", "NOT_MEASURABLE", "REJECT", "UNDECIDED", "decide", "exit_code"]

ACCEPT, REJECT, UNDECIDED, NOT_MEASURABLE = "accept", "reject", "undecided", "not measurable"


def decide(
    value: float,
    uncertainty: float,  # standard, k = 1
    upper: float | None,
    lower: float | None = None,
    *,
    coverage: float = 2.0,  # k
    bias: float = 0.0,  # by which noise may have raised the value, at least 0
) -> str:
    """ACCEPT, REJECT or UNDECIDED."""
    low, high = value - bias - coverage * uncertainty, value + coverage * uncertainty
    inside_upper = upper is None or high <= upper
    inside_lower = lower is None or low >= lower
    if inside_upper and inside_lower:
        return ACCEPT
    if (upper is not None and low > upper) or (lower is not None and high < lower):
        return REJECT
    return UNDECIDED


def exit_code(verdicts: Iterable[str]) -> int:
    """Of many verdicts the one that matters most: 1 out of tolerance, then 4 not measurable, then 3 undecided, else 0."""
    found = set(verdicts)
    for verdict, code in ((REJECT, 1), (NOT_MEASURABLE, 4), (UNDECIDED, 3)):
        if verdict in found:
            return code
    return 0
