"""The rows of a report's table: what was found of each tensor, as short as a picture of it allows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from quantlab.debug.findings import Channels, TensorError
from quantlab.plan import TensorPlan

MOST_BARS = 64
"""Bars in a picture of channels; a weight with more channels has several of them in a bar."""

_DIGITS = 5
"""Significant digits of what is shown: more than anybody reads off a page."""

_PLACED = ("histogram", "channels")


def rows(errors: Sequence[TensorError], plans: Mapping[str, TensorPlan]) -> list[dict[str, Any]]:
    """Return one row a tensor.

    Args:
        errors: What was found.
        plans: Tensor name to what the plan says of it; empty where there is no plan.

    Returns:
        The values of `TensorError.to_json` in five digits; `histogram` has `counts`, `start` and `step` of the edges;
        `channels` has at most `MOST_BARS` bars; `why` and `source` come from the plan.
    """
    return [_row(error, plans.get(error.name)) for error in errors]


def _row(error: TensorError, plan: TensorPlan | None) -> dict[str, Any]:
    plain = error.to_json()
    row: dict[str, Any] = {key: value for key, value in plain.items() if key not in _PLACED}
    if error.grid is not None:
        row["grid"] |= {"qmin": error.grid.spec.qmin, "qmax": error.grid.spec.qmax}
    if (seen := plain.get("histogram")) is not None:
        edges = seen["edges"]  # bins on a lattice all have the same width
        row["histogram"] = {"counts": seen["counts"], "start": edges[0], "step": edges[1] - edges[0]}
    if error.channels is not None and len(error.channels.lo):
        row["channels"] = bars(error.channels)
    if plan is not None:
        if error.grid is not None:  # a model stores neither symmetry nor a narrow range; its plan knows
            row["grid"] |= {"spec": str(plan.spec), "qmin": plan.spec.qmin, "qmax": plan.spec.qmax}
        row |= {"why": plan.reason, "source": plan.source} | ({"like": plan.like} if plan.like else {})
    return {key: rounded(value) for key, value in row.items()}


def bars(channels: Channels) -> dict[str, Any]:
    """Return what a picture of channels shows: neighbours share a bar where there are too many of them.

    Args:
        channels: The channels.

    Returns:
        `axis`; `count` channels, `each` of them in a bar; lists `lo` (least), `hi` (largest) and `sqnr_db` (worst, None
        where it is not finite) of the bars.

    Example:
        >>> import numpy as np
        >>> lo, hi, sqnr = (np.arange(130.0) + offset for offset in (0, 1, 2))
        >>> found = bars(Channels(axis=0, lo=lo, hi=hi, sqnr_db=sqnr))
        >>> found["count"], found["each"], found["lo"][:2], found["hi"][:2], len(found["lo"])
        (130, 3, [0.0, 3.0], [3.0, 6.0], 44)
    """
    count = len(channels.lo)
    each = math.ceil(count / MOST_BARS)
    parts = [slice(begin, begin + each) for begin in range(0, count, each)]
    worst = [float(channels.sqnr_db[part].min()) for part in parts]
    return {
        "axis": channels.axis,
        "count": count,
        "each": each,
        "lo": [float(channels.lo[part].min()) for part in parts],
        "hi": [float(channels.hi[part].max()) for part in parts],
        "sqnr_db": [value if math.isfinite(value) else None for value in worst],
    }


def rounded(value: Any) -> Any:
    """Round the numbers within plain values to five significant digits; what is not finite becomes None.

    Example:
        >>> rounded({"scale": [0.123456789, 1e-9], "count": 1234567})
        {'scale': [0.12346, 1e-09], 'count': 1234567}
    """
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list | tuple) else value
