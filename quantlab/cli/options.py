"""The options that several verbs share, each defined once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

GRIDS, NODES, RUN = "Grids and ranges", "Which nodes", "Running"
"""Headings in the help of a verb."""

ACTIVATIONS = "uint8"
"""Default type of activations: on x86, onnxruntime leaves the readers of a shared int8 tensor in float."""

DATA_HELP = (
    "Samples: an .npz file (a key for each input, stacked along axis 0), an .npy file, a folder of them, "
    "or a folder of images."
)

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A float32 ONNX model.", show_default=False)]
Data = Annotated[Path, typer.Option("--data", "-d", metavar="DATA", help=DATA_HELP, show_default=False)]
OptionalData = Annotated[Path | None, typer.Option("--data", "-d", metavar="DATA", help=DATA_HELP, show_default=False)]
RangesFile = Annotated[
    Path | None,
    typer.Option(
        "--ranges",
        metavar="RANGES",
        help="Take the ranges from this file in place of --data: of `quantlab calibrate`, onnxruntime or TensorRT.",
        show_default=False,
    ),
]
StatisticsFile = Annotated[
    Path | None,
    typer.Option(
        "--statistics",
        metavar="STATS",
        help="Make the ranges of statistics, in place of --data: what `quantlab calibrate --statistics-out` kept.",
        show_default=False,
    ),
]
FloatModel = Annotated[Path, typer.Argument(metavar="FLOAT", help="The float32 model.", show_default=False)]
QuantizedModel = Annotated[Path, typer.Argument(metavar="QUANTIZED", help="Its quantized version.", show_default=False)]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="OUT", help="Where to write the int8 model.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output instead of tables.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say what was changed to prepare the model.")]

PerChannel = Annotated[
    bool,
    typer.Option(
        "--per-channel/--no-per-channel",
        help="Give weights a scale for each output channel, or one for the whole tensor.",
        rich_help_panel=GRIDS,
    ),
]
Calibrate = Annotated[
    str,
    typer.Option(
        metavar="RULE",
        help="How ranges come from data: minmax, percentile, entropy, mse ...",
        rich_help_panel=GRIDS,
    ),
]
Percent = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="For --calibrate percentile: share of the values to keep unclipped, such as 99.99.",
        show_default=False,
        rich_help_panel=GRIDS,
    ),
]
ActivationType = Annotated[
    str, typer.Option(metavar="TYPE", help="int8, uint8, int16 or uint16.", rich_help_panel=GRIDS)
]
WeightType = Annotated[
    str, typer.Option(metavar="TYPE", help="int8, uint8, int16, uint16, int4 or uint4.", rich_help_panel=GRIDS)
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Leave nodes of this name in float; * and ? match anything, re:... is a regular expression, @FILE is what "
        "`quantlab compare --suggest` wrote. Can be given several times; wins over --only.",
        show_default=False,
        rich_help_panel=NODES,
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Quantize only nodes of this name. Can be given several times.",
        show_default=False,
        rich_help_panel=NODES,
    ),
]
OpTypes = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OP",
        help="Quantize only these operator types, such as Conv,Gemm. Can be given several times.",
        show_default=False,
        rich_help_panel=NODES,
    ),
]
MaxSamples = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Use at most so many samples.", show_default=False, rich_help_panel=RUN),
]
Threads = Annotated[
    int,
    typer.Option(metavar="N", min=0, help="Threads in one run; 0 lets onnxruntime choose.", rich_help_panel=RUN),
]
NonFinite = Annotated[
    str,
    typer.Option(
        "--nonfinite",
        metavar="POLICY",
        help="NaN and infinities in activations: refuse-nan, refuse or count.",
        rich_help_panel=GRIDS,
    ),
]


def allowed_word(word: str | None, allowed: tuple[str, ...]) -> str | None:
    """Return the allowed word that equals `word` but for case; what is unknown is left to its reader to refuse."""
    return next((one for one in allowed if word is not None and one.lower() == word.lower()), word)
