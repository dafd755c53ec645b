"""A constant watch looks at the first few samples of a stream and warns when they cannot stand for real data."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping

from quantlab.data.signature import Array
from quantlab.errors import QuantlabWarning

LOOKED_AT = 8
CURE = "ranges measured on them say nothing about real inputs; feed some 100 different samples of real data"


class ConstantWatch:
    """Compares the first samples by digest, so that none of them is kept.

    Invariants:
        * At most one warning is given: after `LOOKED_AT` samples, or at `finish` when the stream has fewer.
    """

    def __init__(self) -> None:
        self._seen = 0
        self._digests: set[bytes] = set()
        self._all_zero = True

    def see(self, batch: Mapping[str, Array], rows: int) -> None:
        """Take in the next batch, which holds `rows` samples along axis 0."""
        if self._seen >= LOOKED_AT:
            return
        for row in range(min(rows, LOOKED_AT - self._seen)):
            arrays = [x[row : row + 1] if x.ndim and len(x) == rows else x for x in batch.values()]
            self._digests.add(digest(arrays))
            self._all_zero = self._all_zero and not any(x.any() for x in arrays)
            self._seen += 1
        if self._seen == LOOKED_AT:
            self._judge("the first ")

    def finish(self) -> None:
        """Judge a stream that ended before `LOOKED_AT` samples."""
        if self._seen < LOOKED_AT:
            self._judge("" if self._seen == 1 else "all ")

    def _judge(self, which: str) -> None:
        counted = f"{which}{self._seen} samples are" if self._seen > 1 else "the only sample is"
        if self._seen and self._all_zero:
            warnings.warn(f"{counted} all zeros: {CURE}", QuantlabWarning, stacklevel=4)
        elif self._seen > 1 and len(self._digests) == 1:
            warnings.warn(f"{counted} identical: {CURE}", QuantlabWarning, stacklevel=4)


def digest(arrays: list[Array]) -> bytes:
    """Return a digest of arrays: of their shapes and values."""
    state = hashlib.blake2b(digest_size=16)
    for array in arrays:
        state.update(repr(array.shape).encode())
        state.update(repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes())
    return state.digest()
