"""Inputs made up from a signature, for timing: there only their shapes and types matter, not what a model computes."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from quantlab.data.signature import Array, InputSpec, Signature
from quantlab.errors import OptionError, nearest

FILLS = ("random", "zeros")


def made_batch(
    signature: Signature,
    *,
    batch_size: int | None = None,
    shapes: Mapping[str, int | Sequence[int]] | None = None,
    fill: str = "random",
    seed: int = 0,
) -> dict[str, Array]:
    """Make one batch for a model.

    Args:
        signature: What the model wants.
        batch_size: Size of axis 0 where the model leaves it open; 1 by default.
        shapes: Name of a symbolic size to the size, or of an input to its whole shape. Other open sizes are 1.
        fill: `"random"`: floats of the standard normal distribution, integers and booleans 0 or 1, which every
            vocabulary has; or `"zeros"`.
        seed: Of the random numbers. An input of one name and shape gets the same numbers in every model.

    Returns:
        Input name to array.

    Raises:
        OptionError: An unknown name or fill, a size below 1, or one that contradicts the model.

    Example:
        >>> spec = InputSpec(name="x", dtype=np.dtype("float32"), shape=("N", 3, "H"))
        >>> made_batch(Signature(inputs=(spec,)), batch_size=2, shapes={"H": 8})["x"].shape
        (2, 3, 8)
    """
    given = dict(shapes or {})
    if fill not in FILLS:
        raise OptionError(f"fill={fill!r} is not known{nearest(fill, FILLS)} (allowed: {', '.join(FILLS)})")
    known = {str(dim) for spec in signature for dim in spec.shape if isinstance(dim, str)} | set(signature.names)
    for name in given:
        if name not in known:
            raise OptionError(
                f"the model has no input and no symbolic size {name!r}{nearest(name, known)} "
                f"(it has: {', '.join(sorted(known))})"
            )
    shaped = {spec.name: _shape(spec, batch_size, given) for spec in signature}
    return {spec.name: _values(spec, shaped[spec.name], fill, seed) for spec in signature}


def _shape(spec: InputSpec, batch_size: int | None, given: Mapping[str, int | Sequence[int]]) -> tuple[int, ...]:
    whole = given.get(spec.name)
    if whole is not None:
        shape = (whole,) if isinstance(whole, int) else tuple(whole)
    else:
        first = batch_size or 1
        sizes = [
            dim if isinstance(dim, int) else given.get(dim or "", first if axis == 0 else 1)
            for axis, dim in enumerate(spec.shape)
        ]
        shape = tuple(size if isinstance(size, int) else 0 for size in sizes)
    said = f"input {spec.name!r} wants {spec.shape_text}, got {shape}"
    if len(shape) != spec.rank or any(size < 1 for size in shape):
        raise OptionError(f"{said}: give a whole number of 1 or more for each axis")
    for got, dim in zip(shape, spec.shape, strict=True):
        if isinstance(dim, int) and dim != got:
            raise OptionError(f"{said}: the model fixes {dim}")
    if batch_size is not None and spec.rank and shape[0] != batch_size:
        raise OptionError(f"{said} at batch size {batch_size}: leave the batch size out, or make axis 0 {batch_size}")
    return shape


def _values(spec: InputSpec, shape: tuple[int, ...], fill: str, seed: int) -> Array:
    if spec.dtype.kind == "O":
        return np.full(shape, "", object)
    if fill == "zeros":
        return np.zeros(shape, spec.dtype)
    random = np.random.default_rng([seed, zlib.crc32(spec.name.encode())])
    return (random.standard_normal(shape) if spec.is_float else random.integers(0, 2, shape)).astype(spec.dtype)
