"""Pictures: functions that draw on matplotlib axes and return them."""

from quantlab.plots.channels import plot_channels
from quantlab.plots.figures import save_figure
from quantlab.plots.graph import graph_figure, plot_graph
from quantlab.plots.histogram import plot_histogram
from quantlab.plots.landmarks import plot_landmarks
from quantlab.plots.mapping import mapping_figure, plot_mapping
from quantlab.plots.observers import plot_observers
from quantlab.plots.sqnr import plot_sqnr
from quantlab.plots.training import plot_training

__all__ = [
    "graph_figure",
    "mapping_figure",
    "plot_channels",
    "plot_graph",
    "plot_histogram",
    "plot_landmarks",
    "plot_mapping",
    "plot_observers",
    "plot_sqnr",
    "plot_training",
    "save_figure",
]
