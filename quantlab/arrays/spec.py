"""A QuantSpec is the grid before any number is known: type, symmetry, granularity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quantlab.arrays.dtypes import DType, dtype
from quantlab.errors import OptionError


@dataclass(frozen=True, kw_only=True)
class QuantSpec:
    """What a tensor's grid shall look like.

    Invariants:
        * `axis is None` means one scale for the whole tensor; otherwise one for each index along `axis`.
        * `qmin..qmax` is the span over which a range is spread. Values still saturate at the type's own limits
          (`dtype.qmin..dtype.qmax`), as ONNX's QuantizeLinear does.
        * `narrow_range` and `reduce_range` are not both set.

    Attributes:
        dtype: Integer type of the stored values.
        symmetric: Spread the range evenly around zero, with the zero point in the middle of the grid.
        narrow_range: Leave out the most negative value of a signed type, so that the grid mirrors around 0
            (int8: -127..127).
        reduce_range: Give one bit away (int8: -64..64, uint8: 0..127), for processors whose 8-bit products add up with
            16-bit saturation.
        axis: Channel axis, or None.
    """

    dtype: DType
    symmetric: bool = False
    narrow_range: bool = False
    reduce_range: bool = False
    axis: int | None = None

    def __post_init__(self) -> None:
        if self.narrow_range and self.reduce_range:
            raise OptionError("narrow_range and reduce_range exclude each other: choose one span")
        if self.narrow_range and not self.dtype.signed:
            raise OptionError(f"narrow_range needs a signed type, got {self.dtype}")

    @property
    def qmin(self) -> int:
        """Lower end of the span."""
        if self.reduce_range:
            return self.dtype.qmin // 2
        return self.dtype.qmin + 1 if self.narrow_range else self.dtype.qmin

    @property
    def qmax(self) -> int:
        """Upper end of the span."""
        if not self.reduce_range:
            return self.dtype.qmax
        # Signed 8- and 16-bit grids keep the value 2**(bits - 2), so that -64..64 mirrors around 0; 4 bits do not.
        return -self.qmin if self.dtype.signed and self.dtype.bits > 4 else self.dtype.qmax // 2

    @property
    def per_channel(self) -> bool:
        """Whether there is a scale for each channel."""
        return self.axis is not None

    def to_json(self) -> dict[str, Any]:
        """Return the specification as plain JSON values; fields that keep their default are left out."""
        plain: dict[str, Any] = {"dtype": self.dtype.name}
        for name in ("symmetric", "narrow_range", "reduce_range"):
            if getattr(self, name):
                plain[name] = True
        if self.axis is not None:
            plain["axis"] = self.axis
        return plain

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> QuantSpec:
        """Read what `to_json` wrote.

        Raises:
            OptionError: Unknown type or contradicting fields.
        """
        return cls(**{**plain, "dtype": dtype(plain["dtype"])})

    def __str__(self) -> str:
        words = [self.dtype.name, "symmetric" if self.symmetric else "asymmetric"]
        words += [name for name in ("narrow_range", "reduce_range") if getattr(self, name)]
        words.append("per tensor" if self.axis is None else f"per channel of axis {self.axis}")
        return ", ".join(words)
