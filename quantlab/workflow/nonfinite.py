"""What becomes of NaN and infinities in the tensors of a model: refused with their sample, or counted and reported."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from quantlab.calibration import Statistic
from quantlab.calibration.gather import Gatherer
from quantlab.errors import DataError, QuantlabWarning
from quantlab.plan import NonFinite

WORST_SHOWN = 3
CURE = (
    "run the float model on that sample, exclude the node that makes it, or leave such values out with "
    "nonfinite='count'"
)


def check_finite(name: str, seen: Statistic | Gatherer, policy: NonFinite, sample: int) -> None:
    """Refuse what a policy does not allow in a tensor.

    Args:
        name: The tensor.
        seen: Its statistic, or what gathers it, with the sample in it; none of the samples before was refused.
        policy: See `Recipe.nonfinite`.
        sample: Number of the sample.

    Raises:
        DataError: There is NaN, or infinity, and the policy refuses it.
    """
    if policy == "count":
        return
    if seen.nan_count:
        raise DataError(f"tensor {name!r} contains NaN in sample {sample} although the model's inputs do not: {CURE}")
    if policy == "refuse" and seen.inf_count:
        raise DataError(
            f"tensor {name!r} contains infinities in sample {sample} although the model's inputs do not: {CURE}"
        )


def warn_of_left_out(seen: Mapping[str, Statistic]) -> None:
    """Warn where NaN or infinities were left out, and name the tensors that held the largest shares of them.

    Args:
        seen: Tensor to statistic.
    """
    shares = {name: _left_out(statistic) / _size(statistic) for name, statistic in seen.items() if _left_out(statistic)}
    if not shares:
        return
    worst = sorted(shares, key=lambda name: -shares[name])[:WORST_SHOWN]
    listed = "; ".join(
        f"{name!r}: {seen[name].nan_count:,} NaN and {seen[name].inf_count:,} infinite of {_size(seen[name]):,} values"
        for name in worst
    )
    more = f"; and {len(shares) - len(worst)} more" if len(shares) > len(worst) else ""
    warnings.warn(
        f"{len(shares)} of {len(seen)} tensors held NaN or infinities, which are left out of their ranges and which "
        f"no integer can stand for ({listed}{more})",
        QuantlabWarning,
        stacklevel=3,
    )


def _left_out(seen: Statistic) -> int:
    return seen.nan_count + seen.inf_count


def _size(seen: Statistic) -> int:
    return seen.count + _left_out(seen)
