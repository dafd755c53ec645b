"""Screening estimates the share of every source of error from a fixed number of runs, however many sources there are.

In each run a random eighth of the sources is on: x_kj is 1 where source j is on in run k, and every source is on as
often as any other. Errors of different sources are nearly uncorrelated, so that their powers add up,

    P_k = sum_j x_kj p_j,        p_j >= 0

and the shares p are those that make the measured P most likely, by repeating

    p_j <- p_j * (sum_k x_kj P_k / (x p)_k) / sum_k x_kj

A source that was in any run with little noise cannot have much of it; one whose runs are all noisy is a culprit. This
also holds where a network is saturated: what one culprit destroys is not counted twice.

Source: pooled runs, Dorfman 1943, "The detection of defective members of large populations"; the iteration is that of
Richardson 1972 and Lucy 1974, whose errors are relative to P, as those of noise powers are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SPARSITY = 8
"""One of so many sources is on: where there are few culprits, most runs have one of them or none."""

ROUNDS = 300
"""Iterations: the shares of the large sources stand still long before."""


def random_pools(sources: int, runs: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Draw which sources are on in which run.

    Args:
        sources: Number of columns.
        runs: Number of rows, at least `SPARSITY`.
        rng: Source of randomness.

    Returns:
        Shape (runs, sources); every column has `runs // SPARSITY` true entries.

    Example:
        >>> random_pools(5, 16, np.random.default_rng(0)).sum(axis=0).tolist()
        [2, 2, 2, 2, 2]
    """
    column = np.arange(runs) < runs // SPARSITY
    return rng.permuted(np.tile(column[:, None], (1, sources)), axis=0)


def shares_of(pools: npt.NDArray[np.bool_], powers: npt.NDArray[Any]) -> Floats:
    """Estimate the power of every source.

    Args:
        pools: Which sources were on, shape (runs, sources); each at least once.
        powers: Noise power of each run, shape (runs,).

    Returns:
        Powers, shape (sources,), none below zero.

    Example:
        >>> pools = np.array([[True, True, False], [False, True, True], [True, False, True]])
        >>> shares_of(pools, np.array([3.0, 2.0, 1.0])).round(1).tolist()
        [1.0, 2.0, 0.0]
    """
    on, times = pools.astype(np.float64), pools.sum(axis=0)
    shares: Floats = np.full(pools.shape[1], max(float(np.mean(powers)), np.finfo(np.float64).tiny))
    for _ in range(ROUNDS):
        expected = on @ shares
        ratio = np.divide(powers, expected, out=np.zeros_like(expected), where=expected > 0)
        shares = shares * (on.T @ ratio) / times
    return shares
