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
        * `axis is None` means one scale for the whole tensor; otherwise one for each index along `axis`, or, with a
          block size, one for each run of so many neighbours along `axis` (at each index of the other axes).
        * `qmin..qmax` is the span over which a range is spread. Values still saturate at the type's own limits
          (`dtype.qmin..dtype.qmax`), as ONNX's QuantizeLinear does.
        * `narrow_range` and `reduce_range` are not both set.

    Attributes:
        dtype: Type of the stored values; float8 grids are symmetric.
        symmetric: Spread the range evenly around zero, with the zero point in the middle of the grid.
        narrow_range: Leave out the most negative value of a signed type, so that the grid mirrors around 0
            (int8: -127..127).
        reduce_range: Give one bit away (int8: -64..64, uint8: 0..127), for processors whose 8-bit products add up with
            16-bit saturation.
        axis: Channel axis, or the axis that is cut into blocks, or None.
        block_size: How many neighbours along `axis` share a scale, or None for whole channels.
    """

    dtype: DType
    symmetric: bool = False
    narrow_range: bool = False
    reduce_range: bool = False
    axis: int | None = None
    block_size: int | None = None

    def __post_init__(self) -> None:
        if self.narrow_range and self.reduce_range:
            raise OptionError("narrow_range and reduce_range exclude each other: choose one span")
        if self.narrow_range and not self.dtype.signed:
            raise OptionError(f"narrow_range needs a signed type, got {self.dtype}")
        if self.dtype.is_float and (not self.symmetric or self.narrow_range or self.reduce_range):
            raise OptionError(
                f"a grid of {self.dtype} has no zero point and one span: give symmetric=True, "
                "and neither narrow_range nor reduce_range"
            )
        if self.block_size is not None and (self.axis is None or self.block_size < 1):
            raise OptionError(
                f"got block_size={self.block_size} with axis={self.axis}: blocks have 1 element or more along an axis"
            )

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
        return self.axis is not None and self.block_size is None

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Say whether scales or ranges of a shape can belong to the grid: (), (C,), or any with the axis of blocks."""
        if self.block_size is None or self.axis is None:
            return len(shape) == int(self.per_channel)
        return -len(shape) <= self.axis < len(shape)

    def to_json(self) -> dict[str, Any]:
        """Return the specification as plain JSON values; fields that keep their default are left out."""
        plain: dict[str, Any] = {"dtype": self.dtype.name}
        for name in ("symmetric", "narrow_range", "reduce_range"):
            if getattr(self, name):
                plain[name] = True
        for name in ("axis", "block_size"):
            if getattr(self, name) is not None:
                plain[name] = getattr(self, name)
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
        if self.block_size is None:
            words.append("per tensor" if self.axis is None else f"per channel of axis {self.axis}")
        else:
            words.append(f"per block of {self.block_size} along axis {self.axis}")
        return ", ".join(words)
