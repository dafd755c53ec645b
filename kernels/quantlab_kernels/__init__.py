"""The inner loops of quantization: `reference` (NumPy) defines every number, `compiled` (Numba) gives the same bits."""
