"""What it costs to import quantlab, beside importing NumPy alone; each in a process of its own."""

import subprocess
import sys

import pytest


@pytest.mark.benchmark(group="import")
@pytest.mark.parametrize("code", ["import numpy", "import quantlab", "import quantlab; quantlab.quantize_static"])
def test_import(benchmark, code):
    """The first two should differ by little; the third loads what quantizing needs."""
    benchmark.pedantic(subprocess.run, ([sys.executable, "-c", code],), {"check": True}, rounds=10, warmup_rounds=1)
