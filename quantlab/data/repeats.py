"""A repeat watch compares the first batch of each pass over a source, and warns when a pass gives other data."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from quantlab.data.constant import digest
from quantlab.data.signature import Array
from quantlab.errors import QuantlabWarning


class RepeatWatch:
    """Remembers the digest of the batch that a pass began with, by its position; slices of a source share one.

    Invariants:
        * At most one warning is given.
    """

    def __init__(self) -> None:
        self._digests: dict[int, bytes] = {}
        self._warned = False

    def begin(self, index: int, batch: Mapping[str, Array], name: str) -> None:
        """Take in the batch that a pass begins with.

        Args:
            index: Its position in the source.
            batch: Its arrays.
            name: What the source is.
        """
        found = digest(list(batch.values()))
        if self._warned or self._digests.setdefault(index, found) == found:
            return
        self._warned = True
        warnings.warn(
            f"{name} gave another batch {index} in one pass than in the pass before: what is measured in several "
            "passes will not fit together; take out the shuffling and the random changes, or fix their seed in each "
            "pass",
            QuantlabWarning,
            stacklevel=3,
        )
