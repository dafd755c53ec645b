"""Sums over pairs of arrays, against exact sums; the definition and its twin."""

import math

import numpy as np
import pytest

from quantlab_kernels import compiled, reference
from tests.kernels.kernel_cases import bits

BOTH = pytest.mark.parametrize("kernels", [reference, compiled])


def pairs(size, dtype=np.float32):
    rng = np.random.default_rng(size)
    x = rng.normal(size=size).astype(dtype)
    return x, (x + rng.normal(size=size) / 10).astype(dtype), (np.rint(np.clip(x, -2, 2) * 8) / 8).astype(dtype)


@BOTH
@pytest.mark.parametrize("size", [0, 1, 255, 256, 1000, 200_001])
def test_sums_are_those_of_a_loop(kernels, size):
    x, y, g = pairs(size)
    lo, hi = np.array(-1.5), np.array(1.75)
    found = kernels.error_sums(x, y, g, lo, hi)
    a, b, c = (array.astype(np.float64).tolist() for array in (x, y, g))
    place = ["below" if v < -1.5 else "above" if v > 1.75 else "inside" for v in a]
    local = [(v - w) ** 2 for v, w in zip(a, c, strict=True)]

    def near(value):
        return pytest.approx(value, rel=1e-12)

    assert found.signal == near(math.fsum(v * v for v in a))
    assert found.other == near(math.fsum(v * v for v in b))
    assert found.noise == near(math.fsum((v - w) ** 2 for v, w in zip(a, b, strict=True)))
    assert found.dot == near(math.fsum(v * w for v, w in zip(a, b, strict=True)))
    for kind, got in (("inside", found.rounding), ("below", found.clipped_below), ("above", found.clipped_above)):
        assert got == near(math.fsum(e for e, p in zip(local, place, strict=True) if p == kind))
    assert (found.below, found.above, found.size) == (place.count("below"), place.count("above"), size)
    assert found.largest == max((abs(v - w) for v, w in zip(a, b, strict=True)), default=0)
    assert (found.least, found.most) == (min(a, default=math.inf), max(a, default=-math.inf))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("spread", [False, True])
def test_the_twin_has_the_bits_of_the_definition_over_many_rows(dtype, spread):
    x, y, g = pairs(150_001, dtype)
    x[[7, 70_000]] = np.nan, np.inf
    lo, hi = (np.full(x.shape, end) if spread else np.array(end) for end in (-2.1, 1.9))
    assert bits(compiled.error_sums(x, y, g, lo, hi)) == bits(reference.error_sums(x, y, g, lo, hi))


@BOTH
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_integers_are_laid_beside_their_own_grid(kernels, dtype):
    info, x = np.iinfo(dtype), pairs(70_001)[0]
    args = (np.float32(3 / info.max), info.max // 3, info.min, info.max)
    q = kernels.quantize(x, *args, dtype) // 2 * 2
    found = kernels.grid_error_sums(x, q, *args)
    ends = [np.array((end - args[1]) * float(args[0])) for end in (info.min - 0.5, info.max + 0.5)]
    want = kernels.error_sums(x, kernels.dequantize(q, *args[:2]), kernels.fake_quant(x, *args), *ends)
    assert bits(found) == bits(want)
    assert found.below + found.above > 0


@BOTH
def test_refusals(kernels):
    x, end = np.zeros((2, 3), np.float32), np.array(0.0)
    with pytest.raises(
        ValueError, match=r"shapes \(2, 3\), \(3,\) and \(2, 3\) with ends of shapes \(\) and \(\): the"
    ):
        kernels.error_sums(x, x[0], x, end, end)
    with pytest.raises(TypeError, match="got an array of int64; allowed are float16, float32 and float64"):
        kernels.error_sums(x, np.zeros((2, 3), int), x, end, end)
    with pytest.raises(
        ValueError, match=r"got floats of shape \(2, 3\) and integers of shape \(3,\): they need one shape"
    ):
        kernels.grid_error_sums(x, np.zeros(3, np.int8), 1.0, 0, -8, 7)
