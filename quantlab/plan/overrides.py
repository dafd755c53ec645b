"""An override is what one tensor gets in place of the recipe's choice: another grid, a range or numbers of its own.

An activation may also be converted: whoever makes it rounds it to one grid, and some of its readers are given it on a
second one. Nothing here knows a model; `quantlab.plan.override_checks` holds overrides against one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np

from quantlab.arrays import DType, QParams, QuantSpec, Range
from quantlab.errors import OptionError

Numbers = tuple[float, ...]
Kind = Literal["weight", "activation"]

OVERRIDE_TYPES = ("int4", "uint4", "int8", "uint8", "int16", "uint16")


@dataclass(frozen=True, kw_only=True)
class GridOverride:
    """What a grid gets in place of the recipe's choice; None leaves the choice to the recipe.

    Invariants:
        * `scale` and `zero_point` come together, and then without `symmetric`, `reduce_range`, `rmin` and `rmax`.
        * Numbers are finite, scales positive, and no `rmin` lies above its `rmax`.
        * Without `axis` there is one of each number; with it one, which holds for all channels, or one for each.

    Attributes:
        dtype: Type of the stored values.
        symmetric: Whether the range is spread evenly around zero.
        reduce_range: Whether one bit is given away; for constants.
        axis: Channel axis of a constant; without it there is one scale for the whole tensor.
        rmin: Lower ends of the range, in the tensor's unit.
        rmax: Upper ends of the range.
        scale: Scales.
        zero_point: Zero points.

    Raises:
        OptionError: An invariant does not hold.
    """

    dtype: DType | None = None
    symmetric: bool | None = None
    reduce_range: bool | None = None
    axis: int | None = None
    rmin: Numbers | None = None
    rmax: Numbers | None = None
    scale: Numbers | None = None
    zero_point: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype.name not in OVERRIDE_TYPES:
            raise OptionError(f"quant_type is {self.dtype} (allowed: {', '.join(OVERRIDE_TYPES)})")
        if (self.scale is None) != (self.zero_point is None):
            given, missing = ("scale", "zero_point") if self.zero_point is None else ("zero_point", "scale")
            raise OptionError(f"there is {given} without {missing}: give both or neither")
        self._check_contradictions()
        self._check_lengths()
        self._check_values()

    def _check_contradictions(self) -> None:
        for name in ("symmetric", "reduce_range", "rmin", "rmax"):
            if self.scale is not None and getattr(self, name) is not None:
                raise OptionError(f"{name} does nothing beside scale and zero_point: keep one or the other")
        if self.axis is not None and (self.rmin is None) != (self.rmax is None):
            raise OptionError("with axis, rmin and rmax come together: give both or neither")

    def _check_lengths(self) -> None:
        for name in ("rmin", "rmax", "scale", "zero_point"):
            values = getattr(self, name)
            if values is not None and self.axis is None and len(values) != 1:
                raise OptionError(
                    f"{name} has {len(values)} values: without axis there is one scale for the whole tensor, "
                    "so give one value, or axis as well"
                )
            if values is not None and not values:
                raise OptionError(f"{name} is an empty list: give a number for each channel, or one for all")

    def _check_values(self) -> None:
        for name in ("rmin", "rmax", "scale"):
            for value in getattr(self, name) or ():
                if not isfinite(value):
                    raise OptionError(f"{name} is {value}: it must be finite")
        for value in self.scale or ():
            if value <= 0:
                raise OptionError(f"scale is {value:g}: it must be positive")
        low, high = self.rmin or (), self.rmax or ()
        for lo, hi in zip(low, high, strict=False) if len(low) == len(high) else ():
            if lo > hi:
                raise OptionError(f"rmin is {lo:g} and rmax {hi:g}: the lower end comes first")

    def spec(self, usual: QuantSpec, *, weight: bool = False) -> QuantSpec:
        """Return the grid to use in place of a usual one.

        Args:
            usual: The recipe's grid for the tensor, of any granularity.
            weight: Whether it is that of a weight. Where that is symmetric exactly as its type suggests (signed types
                are, unsigned ones are not), a grid of another type follows that type.

        Returns:
            The grid; scales per channel make it symmetric by default.
        """
        row = self.dtype or usual.dtype
        natural = weight and usual.symmetric == usual.dtype.signed
        symmetric = row.signed if self.dtype is not None and natural else usual.symmetric
        if usual.dtype.is_float and not row.is_float and not weight:
            symmetric = False  # float8 knows no other grid, so that this says nothing of integers
        if self.zero_point is not None:
            middle = 0 if row.signed else (row.qmax + 1) // 2
            symmetric = all(value == middle for value in self.zero_point)
        elif self.symmetric is not None:
            symmetric = self.symmetric
        elif self.axis is not None:
            symmetric = True
        reduced = usual.reduce_range if self.reduce_range is None else self.reduce_range
        reduced = reduced and self.scale is None
        narrow = symmetric and row.signed and row.bits > 4 and not reduced and not row.is_float
        return QuantSpec(dtype=row, symmetric=symmetric, narrow_range=narrow, reduce_range=reduced, axis=self.axis)

    def values(self, kind: str, channels: int) -> Range | None:
        """Return the range, one for each channel where there are channels, or None unless both ends are given.

        Args:
            kind: Floating-point type of the tensor.
            channels: Number of channels; 1 without `axis`.

        Returns:
            The range in that type, of shape () or (C,).
        """
        if self.rmin is None or self.rmax is None:
            return None
        return Range(self._spread(self.rmin, kind, channels), self._spread(self.rmax, kind, channels))

    def qparams(self, spec: QuantSpec, kind: str, channels: int) -> QParams | None:
        """Return scale and zero point, or None unless they are given.

        Args:
            spec: What `spec` returned.
            kind: Floating-point type of the tensor.
            channels: Number of channels; 1 without `axis`.

        Returns:
            The numbers, the scale in that type.

        Raises:
            RangeError: The zero point is none of the type's values, or the scale is 0 or infinite in that type.
        """
        if self.scale is None or self.zero_point is None:
            return None
        with np.errstate(over="ignore"):
            scale = self._spread(self.scale, kind, channels)
        return QParams(scale=scale, zero_point=self._spread(self.zero_point, "int64", channels), spec=spec)

    def _spread(self, numbers: tuple[float, ...], kind: str, channels: int) -> np.ndarray[tuple[int, ...], np.dtype]:
        wide = np.asarray(numbers, np.int64 if kind == "int64" else np.float64)
        return (wide[0] if self.axis is None else np.resize(wide, channels)).astype(kind)


@dataclass(frozen=True, kw_only=True)
class TensorOverride:
    """What one tensor gets in place of the recipe's choice.

    Attributes:
        grid: Its grid.
        convert: For an activation: a second grid, for some of its readers.
        readers: Names of the nodes that are given the second grid, or None for all.
        kind: What the tensor must be, where that was said.

    Raises:
        OptionError: There are readers without a second grid, or the second grid has no type.
    """

    grid: GridOverride = GridOverride()
    convert: GridOverride | None = None
    readers: tuple[str, ...] | None = None
    kind: Kind | None = None

    def __post_init__(self) -> None:
        if self.convert is None:
            if self.readers is not None:
                raise OptionError("recv_nodes says who reads what convert makes, and there is no convert")
            return
        if self.convert.dtype is None:
            raise OptionError("convert needs a quant_type: the type that its readers are given")
        for name in ("axis", "reduce_range"):
            if getattr(self.convert, name) is not None:
                raise OptionError(f"{name} in convert is for constants, and only activations are converted")
        if self.readers is not None and not self.readers:
            raise OptionError("recv_nodes is empty: name the nodes, or leave it out for all of them")

    def converts_for(self, node: str) -> bool:
        """Say whether a node is given the second grid."""
        return self.convert is not None and (self.readers is None or node in self.readers)


Overrides = Mapping[str, TensorOverride]
"""Tensor to what it gets in place of the recipe's choice."""
