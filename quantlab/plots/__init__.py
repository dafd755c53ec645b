"""Pictures: functions that draw on matplotlib axes and return them."""

from quantlab.plots.figures import save_figure
from quantlab.plots.mapping import mapping_figure, plot_mapping

__all__ = ["mapping_figure", "plot_mapping", "save_figure"]
