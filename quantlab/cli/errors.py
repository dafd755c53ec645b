"""Errors on the command line are one line each: what the library refuses becomes `error: ...` and exit code 2."""

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import typer

from quantlab.cli.console import say
from quantlab.errors import QuantlabError, QuantlabWarning

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
TRACEBACK = "QUANTLAB_TRACEBACK"
"""Environment variable that, set to anything but 0, shows where in the program an error came from."""


@contextmanager
def reported() -> Iterator[None]:
    """Run a verb and put what goes wrong into one line on standard error.

    Raises:
        typer.Exit: With code 2 after a `QuantlabError`, and 130 after Ctrl-C.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("always", QuantlabWarning)
        usual = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, QuantlabWarning):
                say("warning", str(message))
            else:
                usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        try:
            yield
        except QuantlabError as error:
            if os.environ.get(TRACEBACK, "0") not in ("", "0"):
                traceback.print_exc()
            say("error", str(error))
            raise typer.Exit(EXIT_ERROR) from None
        except KeyboardInterrupt:
            say("error", "interrupted; no output file was written")
            raise typer.Exit(EXIT_INTERRUPTED) from None
