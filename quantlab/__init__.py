"""quantlab: a reference quantization engine for ONNX models.

Names load on first use, so that `import quantlab` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from quantlab.arrays import QParams, QuantSpec, Range, dequantize, fake_quant, qparams_from_range
    from quantlab.backend import OrtBackend
    from quantlab.calibration import RangeTable, load_ranges, save_ranges
    from quantlab.data import batches
    from quantlab.debug.attribution import attribute
    from quantlab.debug.compare import compare
    from quantlab.debug.findings import Attribution, Comparison
    from quantlab.debug.suggest import Suggestion, suggest
    from quantlab.errors import QuantlabError, QuantlabWarning
    from quantlab.experiments.ablation import Ablation, ablate
    from quantlab.experiments.bench import BenchSettings, benchmark
    from quantlab.experiments.results import AblationResult
    from quantlab.experiments.sampling import Sampling
    from quantlab.experiments.trials import Trial
    from quantlab.graph.files import load, save
    from quantlab.pages.page import Page
    from quantlab.pages.report import report
    from quantlab.plan import QuantPlan, Recipe, RecipeRule
    from quantlab.workflow.calibration import calibrate_ranges, collect_statistics, ranges_of
    from quantlab.workflow.engine import Engine
    from quantlab.workflow.explain import explain
    from quantlab.workflow.fuse import FuseResult, fuse
    from quantlab.workflow.observe import observe
    from quantlab.workflow.preprocess import PreProcessed, quant_pre_process
    from quantlab.workflow.quantize import QuantResult, calibrate, decide, prepare_for, quantize, write
    from quantlab.workflow.static import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from quantlab.workflow.support import supported_ops

_HOMES = {
    "quantlab.arrays": ("QParams", "QuantSpec", "Range", "dequantize", "fake_quant", "qparams_from_range"),
    "quantlab.backend": ("OrtBackend",),
    "quantlab.calibration": ("RangeTable", "load_ranges", "save_ranges"),
    "quantlab.data": ("batches",),
    "quantlab.errors": ("QuantlabError", "QuantlabWarning"),
    "quantlab.experiments.bench": ("BenchSettings", "benchmark"),
    "quantlab.experiments.ablation": ("Ablation", "ablate"),
    "quantlab.experiments.results": ("AblationResult",),
    "quantlab.experiments.sampling": ("Sampling",),
    "quantlab.experiments.trials": ("Trial",),
    "quantlab.graph.files": ("load", "save"),
    "quantlab.pages.page": ("Page",),
    "quantlab.pages.report": ("report",),
    "quantlab.plan": ("QuantPlan", "Recipe", "RecipeRule"),
    "quantlab.workflow.calibration": ("calibrate_ranges", "collect_statistics", "ranges_of"),
    "quantlab.debug.attribution": ("attribute",),
    "quantlab.debug.compare": ("compare",),
    "quantlab.debug.findings": ("Attribution", "Comparison"),
    "quantlab.debug.suggest": ("Suggestion", "suggest"),
    "quantlab.workflow.engine": ("Engine",),
    "quantlab.workflow.explain": ("explain",),
    "quantlab.workflow.fuse": ("FuseResult", "fuse"),
    "quantlab.workflow.observe": ("observe",),
    "quantlab.workflow.preprocess": ("PreProcessed", "quant_pre_process"),
    "quantlab.workflow.quantize": ("QuantResult", "calibrate", "decide", "prepare_for", "quantize", "write"),
    "quantlab.workflow.static": ("CalibrationMethod", "QuantFormat", "QuantType", "quantize_static"),
    "quantlab.workflow.support": ("supported_ops",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Ablation",
    "AblationResult",
    "Attribution",
    "BenchSettings",
    "CalibrationMethod",
    "Comparison",
    "Engine",
    "FuseResult",
    "OrtBackend",
    "Page",
    "PreProcessed",
    "QParams",
    "QuantFormat",
    "QuantPlan",
    "QuantResult",
    "QuantSpec",
    "QuantType",
    "QuantlabError",
    "QuantlabWarning",
    "Range",
    "RangeTable",
    "Recipe",
    "RecipeRule",
    "Sampling",
    "Suggestion",
    "Trial",
    "ablate",
    "attribute",
    "batches",
    "benchmark",
    "calibrate",
    "calibrate_ranges",
    "collect_statistics",
    "compare",
    "decide",
    "dequantize",
    "explain",
    "fake_quant",
    "fuse",
    "load",
    "load_ranges",
    "observe",
    "prepare_for",
    "qparams_from_range",
    "quant_pre_process",
    "quantize",
    "quantize_static",
    "ranges_of",
    "report",
    "save",
    "save_ranges",
    "suggest",
    "supported_ops",
    "write",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'quantlab' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
