"""How good a model is at its task: one measure a file, in constant memory. Knows no ONNX."""

from quantlab.metrics.measure import Measure, Seen, task_metrics
from quantlab.metrics.running import MetricLike, TaskMetric, parse_metric, task_metric

__all__ = ["Measure", "MetricLike", "Seen", "TaskMetric", "parse_metric", "task_metric", "task_metrics"]
