"""A checked batch is a dict with exactly the arrays a signature asks for; what differs is named in a `DataError`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from quantlab.data.signature import Array, Dim, InputSpec, Signature, is_float
from quantlab.errors import DataError, nearest


def as_array(value: object, where: str) -> Array:
    """Turn whatever holds numbers into a NumPy array, without importing the library it comes from.

    Args:
        value: A NumPy array, a tensor with `.numpy()` (torch: detached and moved to the CPU first), an object with
            `__array__`, or a plain number.
        where: Opening words of an error text, such as `input 'x', sample 3`.

    Returns:
        The array; a view whenever the source allows one.

    Raises:
        DataError: The value holds no array.
    """
    try:
        if isinstance(value, np.ndarray):
            return value
        if callable(getattr(value, "numpy", None)):
            for step in ("detach", "cpu"):
                value = getattr(value, step, lambda same=value: same)()
            return np.asarray(value.numpy())  # type: ignore[attr-defined]
        if hasattr(value, "__array__") or isinstance(value, bool | int | float):
            return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{where}: {type(value).__name__} cannot be made a NumPy array ({error}); convert it first"
        ) from error
    raise DataError(
        f"{where}: got {type(value).__name__}, allowed is a NumPy array or a tensor; convert it with np.asarray"
    )


def check_names(names: Mapping[str, object], signature: Signature, where: str) -> None:
    """Refuse a batch that lacks an input or has a name the model does not know.

    Raises:
        DataError: Names the input, the allowed names and the nearest of them.
    """
    for name in names:
        if name not in signature.names and name not in signature.labels:
            hint = nearest(str(name), signature.names) or ";"
            raise DataError(
                f"{where}: {name!r} is not an input of the model{hint} "
                f"rename it or leave it out. Allowed: {signature.listed}"
            )
    missing = [spec.name for spec in signature.required if spec.name not in names]
    if missing:
        raise DataError(
            f"{where}: input {missing[0]!r} is missing; got {', '.join(map(repr, names)) or 'no arrays'}; "
            f"give every input of the model: {signature.listed}"
        )
    unlabelled = [name for name in signature.labels if name not in names]
    if unlabelled:
        hint = nearest(unlabelled[0], names)
        raise DataError(
            f"{where}: the labels {unlabelled[0]!r} are missing{hint}; got {', '.join(map(repr, names))}; add an array "
            "of that name with a row a sample"
        )


def check_batch(batch: Mapping[str, Array], signature: Signature, where: str) -> dict[str, Array]:
    """Check one batch against the model's inputs and cast what may be cast.

    Casts without a word: float to float, integer to integer when every value fits, bool to integer.

    Args:
        batch: Arrays by input name.
        signature: What the model wants.
        where: Which sample or file this is, for error texts.

    Returns:
        The arrays in the signature's order, C-contiguous, of the model's dtypes; optional ones only where they are
        given. They may be read-only views of the source. Labels follow as they are.

    Raises:
        DataError: A name, rank, dimension, dtype or value the model cannot take.
    """
    check_names(batch, signature, where)
    rows = signature.samples_in(batch)
    checked = {}
    for spec in (spec for spec in signature if spec.name in batch):
        place = f"input {spec.name!r}, {where}"
        check_shape(batch[spec.name].shape, spec, place)
        array = _cast(batch[spec.name], spec, place)
        _check_finite(array, batch[spec.name], spec, place, rows)
        checked[spec.name] = np.asarray(array, order="C")
    return checked | {name: batch[name] for name in signature.labels}


def check_shape(shape: tuple[int, ...], spec: InputSpec, place: str) -> None:
    """Refuse a shape the input cannot take.

    Args:
        shape: Shape of the array.
        spec: The input.
        place: Opening words of the error text.

    Raises:
        DataError: Another rank, another size of a fixed axis, or no elements at all.
    """
    said = f"{place}: got shape {shape}, allowed {spec.shape_text}"
    if len(shape) != spec.rank:
        cure = f"change the number of axes from {len(shape)} to {spec.rank}"
        if len(shape) == spec.rank - 1 and _fits(shape, spec.shape[1:]):
            cure = "add the batch axis with x[None]"
        raise DataError(f"{said}; {cure}")
    if 0 in shape and not spec.optional:  # a cache that is fed back begins empty
        raise DataError(f"{said}; the array is empty; leave empty samples out")
    for axis, (got, allowed) in enumerate(zip(shape, spec.shape, strict=True)):
        if isinstance(allowed, int) and got != allowed:
            raise DataError(f"{said}: axis {axis} is {got} instead of {allowed}; {_shape_cure(shape, spec, axis)}")


def _shape_cure(shape: tuple[int, ...], spec: InputSpec, axis: int) -> str:
    for order, said in (((0, 3, 1, 2), "last"), ((0, 2, 3, 1), "second")):
        if len(shape) == 4 and _fits(tuple(shape[i] for i in order), spec.shape):
            return f"the channels seem to stand {said}: reorder with x.transpose{order}"
    if axis == 0:
        return f"the model takes exactly {spec.leading} at a time: cut or stack the data accordingly"
    return "resize, pad or transpose the data to the model's shape"


def _fits(shape: tuple[int, ...], dims: tuple[Dim, ...]) -> bool:
    return len(shape) == len(dims) and all(
        not isinstance(dim, int) or got == dim for got, dim in zip(shape, dims, strict=True)
    )


def _cast(array: Array, spec: InputSpec, place: str) -> Array:
    got, want = array.dtype, spec.dtype
    if got == want:
        return array
    if got.type is np.void and got.names is None and want.kind == "V" and got.itemsize == want.itemsize:
        return array.view(want)  # NumPy files keep the bits of bfloat16 and its like, but not the name
    if is_float(got) and spec.is_float:
        with np.errstate(over="ignore"):  # what overflows becomes inf, which is refused by name right after
            return array.astype(want)
    if _is_integer(want) and (got.kind == "b" or _is_integer(got)):
        return _cast_integer(array, spec, place)
    if want.kind == "O" and got.kind in "US":
        return array.astype(object)
    said = f"{place}: got dtype {got.name}, allowed {want.name}"
    if spec.is_float and got == np.uint8:
        raise DataError(
            f"{said}; these look like raw pixels: scale them as in training, for instance x.astype('float32') / 255, "
            "or give a folder of images with ImageOptions"
        )
    raise DataError(f"{said}; if the values are meant as they stand, convert them with x.astype('{want.name}')")


def _is_integer(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iu" or (dtype.kind == "V" and dtype.name.startswith(("int", "uint")))


def _cast_integer(array: Array, spec: InputSpec, place: str) -> Array:
    cast = array.astype(spec.dtype)
    if not np.can_cast(array.dtype, spec.dtype, "safe"):
        # Back to the wide type: equal there, and of the same sign, means that nothing was lost on the way.
        lost = (cast.astype(array.dtype) != array) | ((cast < 0) != (array < 0))
        if lost.any():
            raise DataError(
                f"{place}: got dtype {array.dtype.name}, allowed {spec.dtype.name}, and the value "
                f"{array[lost].flat[0]} does not fit; correct the values or clip them"
            )
    return cast


def _check_finite(array: Array, source: Array, spec: InputSpec, place: str, rows: int) -> None:
    if not spec.is_float:
        return
    finite = np.isfinite(array)
    if finite.all():
        return
    at = tuple(int(index) for index in np.argwhere(~finite)[0])
    row = f", its sample {at[0]} of {rows}" if rows > 1 and array.ndim and len(array) == rows else ""
    value = source[at]
    if np.isfinite(value):
        raise DataError(
            f"{place}{row}: the value {float(value):g} at {at} does not fit {spec.dtype.name}; scale the data down"
        )
    raise DataError(
        f"{place}{row}: the value at {at} is {float(value):g}, allowed are finite numbers; repair or leave out the "
        "sample (a mask may use a large negative number in place of -inf)"
    )
