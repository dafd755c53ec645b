"""Agreement of tokens: the share of positions in a text at which both models would go on with the same token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quantlab.errors import DataError
from quantlab.metrics.measure import Array, Seen, Sums, share, task_metrics


@task_metrics.register("token_agreement")
@dataclass(frozen=True, kw_only=True)
class TokenAgreement:
    """Share of tokens with the same arg-max, in 0..1. No labels.

    Attributes:
        output: Name of the output, shape (batch, tokens, classes); the first where it is None.
        mask: Name of an array of the batch, shape (batch, tokens), that is 0 at padding; None counts every token.
    """

    output: str | None = None
    mask: str | None = None
    higher_is_better: ClassVar[bool] = True
    labelled: ClassVar[bool] = False

    @property
    def reads(self) -> tuple[str, ...]:
        """The mask, if there is one."""
        return () if self.mask is None else (self.mask,)

    def sums(self, seen: Seen) -> Sums:
        """Return agreeing tokens, and all tokens that count."""
        exact, rounded = seen.pair(self.output)
        if exact.ndim != 3:
            raise DataError(f"token_agreement needs (batch, tokens, classes): the output has shape {exact.shape}")
        same = exact.argmax(axis=-1) == rounded.argmax(axis=-1)
        counted = np.ones(same.shape, bool) if self.mask is None else self._mask(seen, same.shape)
        return np.array([(same & counted).sum(), counted.sum()], np.float64)

    def _mask(self, seen: Seen, shape: tuple[int, ...]) -> Array:
        found = seen.batch.get(self.mask or "")
        if found is None or found.shape != shape:
            got = f"nothing of that name, but {', '.join(map(repr, seen.batch))}" if found is None else f"{found.shape}"
            raise DataError(f"the mask {self.mask!r} has to have the shape {shape} of the tokens; got {got}")
        return np.asarray(found).astype(bool)

    def value(self, total: Sums) -> float:
        """Return the share."""
        return share(total)
