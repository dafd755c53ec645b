"""The kernels quantlab calls: each is one function with a NumPy definition and a Numba twin that gives the same bits.

Which of the two runs is chosen, from the strongest: `using("numpy")` around the call, the environment variable
`QUANTLAB_KERNELS`, and else `auto`, which takes the twin where Numba is installed and the array is large enough to
gain. Numba is imported at the first call that runs a twin. Signature, types and documentation of a kernel are those of
its definition.
"""

from __future__ import annotations

import numpy as np  # noqa: F401  (the examples of the definitions run here too)

from quantlab.kernels.choosing import CROSSOVER, VARIABLE, Choice, active, choice, chosen, using
from quantlab_kernels import reference
from quantlab_kernels.reference import AxisMinMax, ErrorSums, MinMax, MinMaxLattice, Packed4Bit

__all__ = [
    "CROSSOVER",
    "VARIABLE",
    "AxisMinMax",
    "Choice",
    "ErrorSums",
    "MinMax",
    "MinMaxLattice",
    "Packed4Bit",
    "active",
    "choice",
    "dequantize",
    "dequantize_axis",
    "dequantize_block",
    "error_sums",
    "fake_quant",
    "fake_quant_axis",
    "fake_quant_block",
    "grid_error_sums",
    "histogram",
    "kl_divergences",
    "lattice_histogram",
    "min_max",
    "min_max_axis",
    "min_max_lattice",
    "mse_curve",
    "quantize",
    "quantize_axis",
    "quantize_block",
    "quantize_pack_4bit",
    "using",
]

min_max = chosen(reference.min_max)
min_max_axis = chosen(reference.min_max_axis, large=16_000)
min_max_lattice = chosen(reference.min_max_lattice)
lattice_histogram = chosen(reference.lattice_histogram)
histogram = chosen(reference.histogram)
kl_divergences = chosen(reference.kl_divergences, large=256)
mse_curve = chosen(reference.mse_curve, large=64)
fake_quant = chosen(reference.fake_quant)
fake_quant_axis = chosen(reference.fake_quant_axis)
fake_quant_block = chosen(reference.fake_quant_block)
quantize = chosen(reference.quantize)
quantize_axis = chosen(reference.quantize_axis)
quantize_block = chosen(reference.quantize_block)
dequantize = chosen(reference.dequantize, large=2_000)
dequantize_axis = chosen(reference.dequantize_axis)
dequantize_block = chosen(reference.dequantize_block)
quantize_pack_4bit = chosen(reference.quantize_pack_4bit)
error_sums = chosen(reference.error_sums)
grid_error_sums = chosen(reference.grid_error_sums)
