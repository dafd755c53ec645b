"""Data for the benchmarks: what a layer's output looks like, small enough for the cache and too large for it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

SIZES = {"1e6": (100, 10, 1000), "16e6": (160, 100, 1000)}


@pytest.fixture(scope="session", params=SIZES)
def activations(request: pytest.FixtureRequest) -> NDArray[np.float32]:
    """Normal float32 values of shape (N, C, L), seeded: 4 MB or 64 MB."""
    return np.random.default_rng(0).standard_normal(SIZES[request.param], np.float32)
