"""The one family of errors and warnings: whatever quantlab refuses, it refuses with a `QuantlabError`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class QuantlabError(Exception):
    """Something the caller can put right; the text says what, where, what is allowed and what to do."""


class ModelError(QuantlabError):
    """The model file or graph cannot be used."""


class DataError(QuantlabError):
    """The calibration or evaluation data cannot be used."""


class OptionError(QuantlabError, ValueError):
    """An option has an unknown name, an impossible value, or contradicts another."""


class RangeError(QuantlabError, ValueError):
    """A range, scale or zero point breaks its invariants."""


class ShapeError(QuantlabError, ValueError):
    """An array and the grid meant for it do not fit together."""


class PassError(QuantlabError):
    """A graph pass was called on a model that lacks what the pass requires, or broke what it ensures."""


class QuantlabWarning(UserWarning):
    """Something went on in a way the caller would want to know about."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Say which allowed names lie nearest to a mistyped one, ready to be appended to an error text.

    Args:
        name: What was given.
        allowed: Every name that would have been accepted.

    Returns:
        `"; did you mean 'a' or 'b'?"`, or an empty text when nothing is near.

    Example:
        >>> nearest("percentil", ["minmax", "percentile"])
        "; did you mean 'percentile'?"
        >>> nearest("xyz", ["minmax"])
        ''
    """
    matches = difflib.get_close_matches(name, list(allowed), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(match) for match in matches)}?" if matches else ""
