"""Running models."""

from quantlab.backend.base import Backend, Batch
from quantlab.backend.ort import OrtBackend, latencies, signature

__all__ = ["Backend", "Batch", "OrtBackend", "latencies", "signature"]
