"""The command line, one file a verb; `quantlab --help` lists them."""

from __future__ import annotations

import importlib.util
import sys

NEEDED = ("typer", "rich")
"""What the command line needs beyond the library's own dependencies; imported in this package alone."""


def main() -> None:
    """Run the command line; the entry point of the `quantlab` program.

    Raises:
        SystemExit: Always; 0 after success, 2 after an error the user can put right, 130 after Ctrl-C.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        print(
            f"error: the command line needs {' and '.join(missing)}: pip install 'quantlab-onnx[cli]'", file=sys.stderr
        )
        raise SystemExit(2)
    try:
        from quantlab.cli.app import app

        app(prog_name="quantlab")
    except KeyboardInterrupt:
        raise SystemExit(130) from None
