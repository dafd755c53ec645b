"""How the documentation is built: `sphinx-build -W -b html docs OUT`, without network."""

from quantlab import __version__

project = "quantlab"
author = "The quantlab maintainers"
copyright = "2026, the quantlab maintainers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"quantlab {__version__}"
html_show_sourcelink = False
