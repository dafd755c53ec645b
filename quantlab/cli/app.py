"""The program: its name, its version, its verbs."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from quantlab import __version__
from quantlab.cli.ablate import ablate
from quantlab.cli.apply import apply
from quantlab.cli.bench import bench
from quantlab.cli.calibrate import calibrate
from quantlab.cli.compare import compare
from quantlab.cli.crosscheck import crosscheck
from quantlab.cli.demo import demo
from quantlab.cli.errors import reported
from quantlab.cli.explain import explain
from quantlab.cli.operators import operators
from quantlab.cli.plan import plan
from quantlab.cli.plot import app as plot
from quantlab.cli.preprocess import PeerSpelling, preprocess
from quantlab.cli.quantize import quantize
from quantlab.cli.report import report
from quantlab.cli.saturation import saturation


class Verbs(TyperGroup):
    """The group of verbs; whatever verb runs, its errors are reported in one way."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb that was asked for."""
        with reported():
            return super().invoke(ctx)


app = typer.Typer(
    cls=Verbs,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"quantlab {__version__}")
        raise typer.Exit


@app.callback()
def quantlab(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Quantize ONNX models, and see why every tensor got its numbers.

    Begin with [bold]quantlab demo[/bold].
    """


for verb in (
    demo,
    quantize,
    calibrate,
    plan,
    apply,
    explain,
    compare,
    report,
    operators,
    crosscheck,
    bench,
    ablate,
    saturation,
):
    app.command()(verb)
app.command(cls=PeerSpelling)(preprocess)
app.add_typer(plot, name="plot")
