"""Arrays and arguments on which a kernel and its twin, a slow loop or onnxruntime are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

FLOATS = [np.float16, np.float32, np.float64]
GRIDS = {
    "int4": (np.int8, -8, 7),
    "uint4": (np.uint8, 0, 15),
    "int8": (np.int8, -128, 127),
    "uint8": (np.uint8, 0, 255),
    "int16": (np.int16, -32768, 32767),
    "uint16": (np.uint16, 0, 65535),
    "int32": (np.int32, -(2**31), 2**31 - 1),
}
"""Grid name -> storage, qmin, qmax."""


def specials(dtype: type[np.floating[Any]]) -> NDArray[Any]:
    """Zeros, NaN of both signs, infinities, the denormals next to zero, the largest numbers, and halves for ties."""
    info = np.finfo(dtype)
    tiny = info.smallest_subnormal
    plus = [0.0, np.nan, np.inf, tiny, info.tiny, info.max, 0.5, 1.5, 2.5, 7.5, 127.5, 128.5, 1.0, 1000.0]
    return np.array([*plus, *(-v for v in plus)], dtype)


@st.composite
def arrays(draw: Callable[..., Any], ndim: int | None = None, finite: bool = False) -> NDArray[Any]:
    """Draw float arrays of up to four dimensions, empty ones too, as contiguous, transposed, strided or flipped views.

    Sizes go past the narrow rows and short vectors of the twins: a drawn block is tiled along its last axis.
    """
    dtype = draw(st.sampled_from(FLOATS))
    count = ndim or draw(st.integers(1, 4))
    shape = tuple(draw(st.lists(st.integers(0, 5), min_size=count, max_size=count)))
    pool = specials(dtype)
    if finite:
        pool = pool[np.isfinite(pool)]
    width = np.finfo(dtype).bits
    moderate = st.floats(-1000, 1000, width=16).map(float)
    anything = st.floats(allow_nan=not finite, allow_infinity=not finite, width=width)
    elements = st.one_of(st.sampled_from(pool.tolist()), moderate, anything)
    block = draw(hnp.arrays(dtype, shape, elements=elements))
    x = np.tile(block, (1,) * (count - 1) + (draw(st.sampled_from([1, 1, 9, 70])),))
    layout = draw(st.sampled_from(["contiguous", "transposed", "strided", "flipped"]))
    if layout == "transposed":
        return x.T
    if layout == "strided":
        return np.repeat(x, 2, axis=-1)[..., ::2]
    return x[::-1] if layout == "flipped" else x


@st.composite
def grids(draw: Callable[..., Any], channels: int | None = None) -> tuple[Any, Any, int, int, Any]:
    """Draw scale, zero point, qmin, qmax and storage; arrays of shape (channels,) where a number is given."""
    storage, qmin, qmax = GRIDS[draw(st.sampled_from(sorted(GRIDS)))]
    dtype = draw(st.sampled_from([np.float16, np.float32]))
    info = np.finfo(dtype)
    some = [0.5, 0.1, 1.0, 3.0, float(info.tiny), float(info.smallest_subnormal), float(info.max), 1e-3]
    steps = st.one_of(st.sampled_from(some), st.floats(1e-3, 100.0))
    zeros = st.one_of(st.sampled_from([0, qmin, qmax]), st.integers(qmin, qmax)).map(lambda z: max(qmin, min(qmax, z)))
    if channels is None:
        return dtype(draw(steps)), draw(zeros), qmin, qmax, storage
    scale = np.array(draw(st.lists(steps, min_size=channels, max_size=channels)), dtype)
    zero = np.array(draw(st.lists(zeros, min_size=channels, max_size=channels)), np.int64)
    return scale, zero, qmin, qmax, storage


@st.composite
def blocked(draw: Callable[..., Any]) -> tuple[Any, Any, Any, int, int, int, int, Any]:
    """Draw an array, its scales and zero points by blocks, axis, block size, qmin, qmax and storage."""
    x = draw(arrays())
    axis, size = draw(st.integers(-x.ndim, x.ndim - 1)), draw(st.sampled_from([1, 2, 3, 5, 16, 400]))
    shape = list(x.shape)
    shape[axis] = -(-shape[axis] // size)
    scale, zero, qmin, qmax, storage = draw(grids(channels=7))
    number = np.arange(np.prod(shape, dtype=int)).reshape(shape) % 7
    return x, scale[number], zero[number], axis, size, qmin, qmax, storage


@st.composite
def weights(draw: Callable[..., Any]) -> NDArray[Any]:
    """Draw matrices (K, N), float16 or float32, with ties, zeros of both signs, tiny numbers, NaN and infinities."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    dtype = draw(st.sampled_from([np.float16, np.float32]))
    x = rng.standard_normal((draw(st.integers(0, 600)), draw(st.integers(0, 12))))
    x = np.rint(x * 4) / 4 if draw(st.booleans()) else x
    x = draw(st.sampled_from([np.abs, np.negative, np.positive]))(x)
    info = np.finfo(dtype)
    pool = [0.0, -0.0, float(info.max), -float(info.max), float(info.tiny), 3 * float(info.smallest_subnormal)]
    pool += draw(st.sampled_from([[], [np.nan], [np.nan, np.inf, -np.inf]]))
    chosen = rng.random(x.shape) < draw(st.sampled_from([0.0, 0.01, 1.0]))
    x[chosen] = rng.choice(pool, int(chosen.sum()))
    made = x.astype(dtype)
    return np.asfortranarray(made) if draw(st.booleans()) else made


def bits(value: Any) -> Any:
    """Everything that must agree: dtype, shape and bytes, for a result and for each part of a tuple."""
    if isinstance(value, tuple):
        return type(value).__name__, tuple(bits(part) for part in value)
    array = np.asarray(value)
    return array.dtype.str, array.shape, np.ascontiguousarray(array).tobytes()


def outcome(kernel: Callable[..., Any], *args: Any) -> Any:
    """What a call gives: its bits, or the type and text of the error it raises."""
    try:
        return bits(kernel(*args))
    except (ValueError, TypeError) as error:
        return type(error), str(error)
