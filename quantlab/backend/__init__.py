"""Running models."""

from quantlab.backend.base import Array, Backend, Batch, Runner
from quantlab.backend.ort import OrtBackend, latencies, signature, usable_cores

__all__ = ["Array", "Backend", "Batch", "OrtBackend", "Runner", "latencies", "signature", "usable_cores"]
