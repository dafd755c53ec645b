"""Attention round: a weight may go to any point of its grid, the less likely the farther away.

    u = w / s + z                      where the weight lies on the grid
    P(q | w) ~ round(u + sigma e),     e ~ N(0, 1), saturated at the ends of the grid

With sigma -> 0 that is rounding to nearest. As a method for calibration the disturbance a = sigma e of each weight is
what is learned, so that the layer's output on calibration data changes least. Rounding has no slope, so the slope of
the loss at the rounded weight stands in for it, times the share of the Gaussian that lies ahead: pulling `a` back to
zero counts nearly in full, pushing it farther out less and less.

    dL/da = s dL/dw_q * Phi(sign(dL/dw_q) a / sigma)

Source: Diao, Li, Xu and Hao, "Attention Round for Post-Training Quantization", arXiv 2207.03088 (2022). The layer's
loss is computed from the second moments of its inputs, `reconstruct` starts from rounding to nearest as well as from
random draws, and keeps the best rounding it met.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from quantlab.arrays import QParams, quantize
from quantlab.errors import DataError, OptionError

Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]
TINY = np.finfo(np.float64).tiny
_erf = np.frompyfunc(math.erf, 1, 1)  # NumPy has no error function of its own


def attention_round(w: Floats, grid: QParams, sigma: float, *, seed: int = 0) -> npt.NDArray[Any]:
    """Round every weight to a random point of the grid near it.

    Args:
        w: Weights of any shape.
        grid: Their grid, per tensor or per channel.
        sigma: Standard deviation of the disturbance, in steps of the grid; 0 rounds to nearest.
        seed: Of the draws.

    Returns:
        Integers of the grid's type, of the shape of `w`. Away from the ends of the grid their mean over many seeds is
        `w / scale + zero_point`, up to 2 exp(-2 pi**2 sigma**2) / pi steps.

    Raises:
        OptionError: Sigma is negative or not finite.

    Example:
        >>> from quantlab.arrays import INT8, QuantSpec
        >>> grid = QParams(scale=np.float32(0.5), zero_point=np.int8(0), spec=QuantSpec(dtype=INT8))
        >>> w = np.array([0.2, 0.6, -1.1], np.float32)
        >>> attention_round(w, grid, 0.0).tolist(), attention_round(w, grid, 1.0, seed=7).tolist()
        ([0, 1, -2], [0, 1, -2])
    """
    if not (isinstance(sigma, int | float) and 0 <= sigma < math.inf):
        raise OptionError(f"sigma must be a finite number of grid steps, 0 or more, got {sigma!r}")
    noise = np.random.default_rng(seed).standard_normal(w.shape) * sigma
    return _rounded(w, noise, grid)


def _rounded(w: Floats, disturbance: Doubles, grid: QParams) -> npt.NDArray[Any]:
    if not disturbance.any():
        return quantize(w, grid)
    return quantize(w.astype(np.float64) + disturbance * _along(grid, grid.scale, w.ndim), grid)


def _along(grid: QParams, values: npt.NDArray[Any], ndim: int) -> Doubles:
    """Return numbers of a grid in float64, shaped so that they meet an array of `ndim` axes."""
    wide = values.astype(np.float64)
    if grid.spec.axis is None:
        return wide
    shape = [1] * ndim
    shape[grid.spec.axis] = -1
    return wide.reshape(shape)


def reconstruct(
    w: Floats,
    inputs: Floats,
    grid: QParams,
    *,
    sigma: float = 0.5,
    steps: int = 300,
    rate: float = 0.05,
    seed: int = 0,
) -> npt.NDArray[Any]:
    """Round the weights of a linear layer y = x w^T so that its outputs on calibration data change least.

    Args:
        w: Weights of shape (outputs, inputs).
        inputs: Calibration data of shape (samples, inputs); the paper takes 1,024 samples.
        grid: The grid of the weights, per tensor or per channel.
        sigma: Standard deviation of the first disturbance, in steps of the grid.
        steps: How many steps of Adam.
        rate: Its learning rate at the beginning, in steps of the grid; it falls to zero in a straight line.
        seed: Of the first disturbance.

    Returns:
        Integers of shape (outputs, inputs). Their mean squared output error on `inputs` is at most that of rounding to
        nearest.

    Raises:
        DataError: The shapes do not go together, or the data is not finite.
        OptionError: Sigma or the rate is not above 0, or the number of steps is negative.
    """
    _check(w, inputs, sigma, steps, rate)
    x = inputs.astype(np.float64)
    moments = x.T @ x / len(x)
    scale, zero = _along(grid, grid.scale, w.ndim), _along(grid, grid.zero_point, w.ndim)
    exact = w.astype(np.float64)

    def slope(rounded: npt.NDArray[Any]) -> tuple[Doubles, Doubles]:
        error = (rounded - zero) * scale - exact
        product = error @ moments
        return np.sum(error * product, axis=1), 2 * product * scale

    best = _rounded(w, np.zeros(w.shape), grid)
    least, _ = slope(best)
    disturbance = np.random.default_rng(seed).standard_normal(w.shape) * sigma
    mean, square = np.zeros(w.shape), np.zeros(w.shape)
    for step in range(1, steps + 1):
        rounded = _rounded(w, disturbance, grid)
        loss, gradient = slope(rounded)
        better = loss < least  # outputs do not depend on each other's weights
        least, best = np.where(better, loss, least), np.where(better[:, None], rounded, best)
        gradient *= _phi(np.sign(gradient) * disturbance / sigma)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        size = rate * (1 - (step - 1) / steps)
        disturbance -= size * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + TINY)
    return best


def _phi(x: Doubles) -> Doubles:
    """Return the share of a standard normal distribution below x."""
    return 0.5 + 0.5 * np.asarray(_erf(x / math.sqrt(2)), np.float64)


def _check(w: Floats, inputs: Floats, sigma: float, steps: int, rate: float) -> None:
    if w.ndim != 2 or inputs.ndim != 2 or w.shape[1] != inputs.shape[1] or not inputs.size:
        raise DataError(
            f"weights take the shape (outputs, inputs) and data (samples, inputs), got {w.shape} and {inputs.shape}"
        )
    if not np.isfinite(inputs).all() or not np.isfinite(w).all():
        raise DataError("weights and calibration data must be finite")
    if not (0 < sigma < math.inf and 0 < rate < math.inf and steps >= 0):
        raise OptionError(f"sigma and rate must be above 0 and steps 0 or more, got {sigma}, {rate} and {steps}")
