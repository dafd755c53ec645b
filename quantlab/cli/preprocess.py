"""`quantlab preprocess`: a float model made ready for quantization, as a step of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperCommand

from quantlab.cli import options as o
from quantlab.cli.console import output
from quantlab.errors import OptionError

if TYPE_CHECKING:
    from quantlab.workflow.preprocess import PreProcessed

NOTES_SHOWN = 5

_OPTIONAL_VALUES = ("--skip-optimization", "--skip-onnx-shape", "--skip-symbolic-shape")
_SHAPES, _FILES = "Types and shapes", "External data"


class PeerSpelling(TyperCommand):
    """Options under the spelling of `onnxruntime.quantization.preprocess` too, switches with or without a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Turn `--skip_optimization` and `--skip-optimization True` into what the options are declared as."""
        return list(super().parse_args(ctx, normalized(args)))


def normalized(args: list[str]) -> list[str]:
    """Return arguments with dashes for underscores in options, and a value after every switch that takes one.

    Example:
        >>> normalized(["--skip_optimization", "--int_max", "9", "--skip_onnx_shape", "False"])
        ['--skip-optimization', 'true', '--int-max', '9', '--skip-onnx-shape', 'False']
    """
    made: list[str] = []
    for index, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        made.append(f"{name.replace('_', '-')}{equals}{value}" if arg.startswith("--") else arg)
        following = args[index + 1] if index + 1 < len(args) else "-"
        if made[-1] in _OPTIONAL_VALUES and following.startswith("-"):
            made.append("true")
    return made


def _switch(name: str, what: str) -> Any:
    return typer.Option(name, metavar="[true|false]", help=what, rich_help_panel=_SHAPES)


def preprocess(
    source: Annotated[
        Path, typer.Option("--input", "-i", metavar="MODEL", help="A float32 ONNX model.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Where to write the prepared model: a file, or a folder for MODEL-infer.onnx.",
            show_default=False,
        ),
    ],
    data: o.OptionalData = None,
    skip_optimization: Annotated[
        str,
        typer.Option(
            "--skip-optimization",
            metavar="[true|false]",
            help="Leave the nodes as they are; add types and shapes only.",
        ),
    ] = "false",
    ort_optimize: Annotated[
        bool, typer.Option("--ort-optimize", help="Let onnxruntime optimize first, at its basic level.")
    ] = False,
    skip_onnx_shape: Annotated[str, _switch("--skip-onnx-shape", "Leave out onnx's shape inference.")] = "false",
    skip_symbolic_shape: Annotated[
        str, _switch("--skip-symbolic-shape", "Leave out onnxruntime's symbolic shape inference.")
    ] = "false",
    auto_merge: Annotated[
        bool,
        typer.Option("--auto-merge", help="Take symbolic sizes that clash as equal.", rich_help_panel=_SHAPES),
    ] = False,
    int_max: Annotated[
        int, typer.Option(metavar="N", help='Ends of slices from here on mean "to the end".', rich_help_panel=_SHAPES)
    ] = 2**31 - 1,
    guess_output_rank: Annotated[
        bool,
        typer.Option(
            "--guess-output-rank",
            help="Take outputs of unknown operators for tensors like their first input.",
            rich_help_panel=_SHAPES,
        ),
    ] = False,
    verbose: Annotated[
        int, typer.Option(metavar="N", help="1 shows every note, 3 logs details of symbolic inference.")
    ] = 0,
    save_as_external_data: Annotated[
        bool,
        typer.Option(
            "--save-as-external-data", help="Write weights into files beside the model.", rich_help_panel=_FILES
        ),
    ] = False,
    all_tensors_to_one_file: Annotated[
        bool,
        typer.Option(
            "--all-tensors-to-one-file", help="Into one file, not one for each tensor.", rich_help_panel=_FILES
        ),
    ] = False,
    external_data_location: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of that one file.", show_default="OUT.data", rich_help_panel=_FILES),
    ] = None,
    external_data_size_threshold: Annotated[
        int, typer.Option(metavar="BYTES", help="Least size of a tensor that goes out.", rich_help_panel=_FILES)
    ] = 1024,
) -> None:
    """Make a float model ready for quantization: optimize the graph, and find types and shapes of its tensors.

    `quantlab quantize` does the same by itself, without --data. Also understands the options of
    onnxruntime.quantization.preprocess as they are spelled there.
    """
    from quantlab.cli.files import check_outputs
    from quantlab.workflow.preprocess import quant_pre_process

    target = out / f"{source.stem}-infer.onnx" if out.is_dir() else out
    check_outputs({"--output": target}, {"--input": source, "--data": data})
    result = quant_pre_process(
        source,
        target,
        skip_optimization=_truth("--skip-optimization", skip_optimization),
        skip_onnx_shape=_truth("--skip-onnx-shape", skip_onnx_shape),
        skip_symbolic_shape=_truth("--skip-symbolic-shape", skip_symbolic_shape),
        auto_merge=auto_merge,
        int_max=int_max,
        guess_output_rank=guess_output_rank,
        verbose=verbose,
        save_as_external_data=save_as_external_data,
        all_tensors_to_one_file=all_tensors_to_one_file,
        external_data_location=external_data_location,
        external_data_size_threshold=external_data_size_threshold,
        optimize="onnxruntime" if ort_optimize else "quantlab",
        data=data,
    )
    show_report(result, target, verbose=verbose)


def _shortened(notes: Iterable[str], *, whole: bool) -> Iterator[str]:
    """Yield the first notes of every pass, and how many more there are."""
    for name, group in groupby(notes, key=lambda note: note.partition(": ")[0]):
        listed = list(group)
        shown = len(listed) if whole else NOTES_SHOWN
        yield from listed[:shown]
        if rest := len(listed[shown:]):
            yield f"{name}: and {rest} more, which --verbose 1 shows"


def show_report(result: PreProcessed, written: Path, *, verbose: int = 0) -> None:
    """Print what every pass did, how long it took, and the file that was written."""
    console = output()
    rows = [note.partition(": ")[::2] for note in _shortened(result.notes, whole=verbose > 0)]
    before, after = result.nodes
    rows += [
        ("nodes", f"{before} became {after}" if before != after else f"{after}, as before"),
        ("time", f"{result.seconds:.1f} s"),
        ("written", str(written)),
    ]
    width = max(len(label) for label, _ in rows) + 2
    for index, (label, text) in enumerate(rows):
        shown = "" if index and rows[index - 1][0] == label else label
        console.print(Text.assemble((f"{shown:<{width}}", "bold"), text), soft_wrap=True)


def _truth(option: str, word: str) -> bool:
    found = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(word.lower())
    if found is None:
        raise OptionError(f"{option} {word!r} is neither true nor false: give one of them, or nothing for true")
    return found
