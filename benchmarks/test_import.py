"""What it costs to import quantlab, and to call its kernels for the first time; each in a process of its own."""

import os
import subprocess
import sys

import pytest


@pytest.mark.benchmark(group="import")
@pytest.mark.parametrize("code", ["import numpy", "import quantlab", "import quantlab; quantlab.quantize_static"])
def test_import(benchmark, code):
    """The first two should differ by little; the third loads what quantizing needs."""
    benchmark.pedantic(subprocess.run, ([sys.executable, "-c", code],), {"check": True}, rounds=10, warmup_rounds=1)


CALIBRATION = """
import numpy as np
from quantlab.arrays import INT8, QuantSpec
from quantlab.calibration import calibrator
x, spec = np.random.default_rng(0).standard_normal(20_000, np.float32), QuantSpec(dtype=INT8, symmetric=True)
for name in ("minmax", "percentile", "entropy", "mse"):
    rule = calibrator(name)
    rule.range(rule.empty().update(x).update(x), spec)
"""


@pytest.mark.benchmark(group="first calls of a calibration")
@pytest.mark.parametrize("kernels", ["numpy", "numba"])
def test_first_calls(benchmark, kernels):
    """What the second takes longer is importing Numba and loading machine code that the warm-up round has cached."""
    options = {"check": True, "env": {**os.environ, "QUANTLAB_KERNELS": kernels}}
    benchmark.pedantic(subprocess.run, ([sys.executable, "-c", CALIBRATION],), options, rounds=10, warmup_rounds=1)
