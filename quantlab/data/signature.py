"""A Signature is what a model wants to be fed: its inputs in order, each with name, dtype and shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import DataError, nearest

Array: TypeAlias = NDArray[Any]
Dim: TypeAlias = int | str | None


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """One input of a model.

    Invariants:
        * `dtype` is a NumPy dtype in native byte order; `object` stands for strings.
        * A dimension is a positive integer when it is fixed, and a name or None when it is dynamic. The 0 and negative
          numbers some exporters write for "unknown" become None.

    Attributes:
        name: Name of the graph input.
        dtype: Type of its elements.
        shape: One entry an axis; `()` is a scalar.
        optional: Whether a batch may leave it out, because something else fills it in, as a state that is fed back.

    Example:
        >>> str(InputSpec(name="x", dtype=np.dtype("float32"), shape=("N", 3, None, -1)))
        "'x' float32 (N, 3, ?, ?)"
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[Dim, ...]
    optional: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype).newbyteorder("="))
        dims = tuple(None if isinstance(dim, int) and dim < 1 else dim for dim in self.shape)
        object.__setattr__(self, "shape", dims)

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether elements are floating-point numbers, bfloat16 and the 8-bit floats included."""
        return is_float(self.dtype)

    @property
    def leading(self) -> int | None:
        """Size of axis 0 when the model fixes it, else None; None for a scalar as well."""
        return self.shape[0] if self.shape and isinstance(self.shape[0], int) else None

    @property
    def shape_text(self) -> str:
        """The shape as people write it, `?` for a dimension without a name."""
        words = ["?" if dim is None else str(dim) for dim in self.shape]
        return f"({', '.join(words)}{',' if len(words) == 1 else ''})"

    def __str__(self) -> str:
        return f"{self.name!r} {self.dtype.name} {self.shape_text}"


@dataclass(frozen=True, kw_only=True)
class Signature:
    """The inputs of a model, in the model's order.

    Invariants:
        * There is at least one input, and no two have the same name.
        * No label has the name of an input.

    Attributes:
        inputs: One specification an input.
        labels: Names of arrays that travel with each batch and that the model is not fed, with a row a sample.
    """

    inputs: tuple[InputSpec, ...]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "labels", tuple(dict.fromkeys(n for n in self.labels if n not in self.names)))
        if not self.inputs:
            raise DataError("the model has no inputs, so there is nothing to feed; a constant model needs no data")
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise DataError(f"two inputs have the name {twice[0]!r}; give every input a name of its own")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(spec.name for spec in self.inputs)

    @property
    def required(self) -> tuple[InputSpec, ...]:
        """The inputs that every batch has to bring, in order."""
        return tuple(spec for spec in self.inputs if not spec.optional)

    def with_optional(self, names: Iterable[str]) -> Signature:
        """Return the signature with some inputs that a batch may leave out.

        Args:
            names: Inputs of the model.

        Returns:
            A new signature.

        Raises:
            DataError: No input has that name.
        """
        free = {self[name].name for name in names}
        return replace(self, inputs=tuple(replace(spec, optional=spec.name in free) for spec in self.inputs))

    def with_labels(self, names: Iterable[str]) -> Signature:
        """Return the signature with arrays that every batch brings beside the inputs.

        Args:
            names: Their names; those of inputs are passed over, for a batch has them anyway.

        Returns:
            A new signature.
        """
        return replace(self, labels=tuple(names))

    @property
    def batch_size(self) -> int | None:
        """The number of samples the model takes at a time: the size of axis 0 that all required inputs fix, or None."""
        sizes = {spec.leading for spec in self.required if spec.rank}
        return sizes.pop() if len(sizes) == 1 else None

    def samples_in(self, batch: Mapping[str, Array]) -> int:
        """Count the samples of a batch.

        Args:
            batch: Arrays by input name.

        Returns:
            Rows along axis 0 of the first required input whose axis 0 is dynamic; the fixed batch size when none is
            dynamic; 1 when there is neither.

        Example:
            >>> spec = InputSpec(name="x", dtype=np.dtype("float32"), shape=("N", 2))
            >>> Signature(inputs=(spec,)).samples_in({"x": np.zeros((5, 2), np.float32)})
            5
        """
        for spec in self.required:
            if spec.rank and spec.leading is None:
                array = batch.get(spec.name)
                return len(array) if array is not None and array.ndim == spec.rank else 1
        return self.batch_size or 1

    def __getitem__(self, name: str) -> InputSpec:
        """Return the input of that name.

        Raises:
            DataError: No input has that name.
        """
        for spec in self.inputs:
            if spec.name == name:
                return spec
        raise DataError(f"{name!r} is not an input of the model{nearest(name, self.names)} (allowed: {self.listed})")

    def __iter__(self) -> Iterator[InputSpec]:
        return iter(self.inputs)

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def listed(self) -> str:
        """The names of the inputs, for an error text."""
        return ", ".join(repr(spec.name) + (" (may be left out)" if spec.optional else "") for spec in self.inputs)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Tell whether a dtype is a floating-point one, the extension types bfloat16 and float8 included."""
    return dtype.kind == "f" or (dtype.kind == "V" and dtype.name.startswith(("bfloat", "float")))
