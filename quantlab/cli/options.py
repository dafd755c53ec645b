"""The options that several verbs share, each defined once, and the values they are turned into."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantlab.errors import OptionError

if TYPE_CHECKING:
    from quantlab.data import ImageOptions
    from quantlab.plan import Recipe, RecipeRule, TensorOverride
    from quantlab.workflow.engine import Engine

_GRIDS, _NODES, _IMAGES, _RUN = "Grids and ranges", "Which nodes", "Folders of images", "Running"

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
        rich_help_panel=_GRIDS,
    ),
]
Calibrate = Annotated[
    str,
    typer.Option(
        metavar="RULE",
        help="How ranges come from data: minmax, percentile, entropy, mse ...",
        rich_help_panel=_GRIDS,
    ),
]
Percent = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="For --calibrate percentile: share of the values to keep unclipped, such as 99.99.",
        show_default=False,
        rich_help_panel=_GRIDS,
    ),
]
ActivationType = Annotated[
    str, typer.Option(metavar="TYPE", help="int8, uint8, int16 or uint16.", rich_help_panel=_GRIDS)
]
WeightType = Annotated[
    str, typer.Option(metavar="TYPE", help="int8, uint8, int16, uint16, int4 or uint4.", rich_help_panel=_GRIDS)
]
Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="qdq, which runs wherever ONNX does, or qoperator: onnxruntime's operators on integers.",
        rich_help_panel=_GRIDS,
    ),
]
ReduceRange = Annotated[
    bool,
    typer.Option(
        "--reduce-range", help="Give one bit of the weights away, for processors without VNNI.", rich_help_panel=_GRIDS
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Leave nodes of this name in float; * and ? match anything, re:... is a regular expression, @FILE is what "
        "`quantlab compare --suggest` wrote. Can be given several times; wins over --only.",
        show_default=False,
        rich_help_panel=_NODES,
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Quantize only nodes of this name. Can be given several times.",
        show_default=False,
        rich_help_panel=_NODES,
    ),
]
OpTypes = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OP",
        help="Quantize only these operator types, such as Conv,Gemm. Can be given several times.",
        show_default=False,
        rich_help_panel=_NODES,
    ),
]
Overrides = Annotated[
    Path | None,
    typer.Option(
        "--overrides",
        metavar="FILE.json",
        help="What single tensors get instead: {tensor: {quant_type, scale, zero_point, axis, ...}}.",
        show_default=False,
        rich_help_panel=_GRIDS,
    ),
]
IntegerInputs = Annotated[
    bool,
    typer.Option("--integer-inputs", help="Leave rounding the inputs to the caller.", rich_help_panel=_GRIDS),
]
IntegerOutputs = Annotated[
    bool,
    typer.Option("--integer-outputs", help="Give the outputs out as integers.", rich_help_panel=_GRIDS),
]
Subgraphs = Annotated[
    bool,
    typer.Option("--subgraphs", help="Quantize the bodies of If, Loop and Scan too.", rich_help_panel=_NODES),
]
MaxSamples = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Use at most so many samples.", show_default=False, rich_help_panel=_RUN),
]
Threads = Annotated[
    int,
    typer.Option(metavar="N", min=0, help="Threads in one run; 0 lets onnxruntime choose.", rich_help_panel=_RUN),
]
Unoptimized = Annotated[
    bool,
    typer.Option(
        "--unoptimized",
        help="Run the graph node by node, as the calibrators of onnxruntime.quantization do: slower, the same bits.",
        rich_help_panel=_RUN,
    ),
]
Memory = Annotated[
    int,
    typer.Option(metavar="MB", min=1, help="Activations held at a time, in MiB.", rich_help_panel=_RUN),
]
CheckpointFile = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        metavar="FILE",
        help="Save the calibration here now and then, and go on from it.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]
State = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        metavar="OUT=IN",
        help="Feed this output back to this input with the next sample. Can be given several times.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]
NonFinite = Annotated[
    str,
    typer.Option(
        "--nonfinite",
        metavar="POLICY",
        help="NaN and infinities in activations: refuse-nan, refuse or count.",
        rich_help_panel=_GRIDS,
    ),
]
Layout = Annotated[
    str | None,
    typer.Option(metavar="NCHW|NHWC", help="Order of the axes.", show_default="the model's", rich_help_panel=_IMAGES),
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="N|HxW",
        help="Height and width in pixels, 224 or 224x320.",
        show_default="the model's",
        rich_help_panel=_IMAGES,
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        metavar="M[,M,M]",
        help="Subtracted after scaling; one number, or one a channel.",
        show_default="0",
        rich_help_panel=_IMAGES,
    ),
]
Std = Annotated[
    str | None,
    typer.Option(
        metavar="S[,S,S]",
        help="Divides after that; one number, or one a channel.",
        show_default="1",
        rich_help_panel=_IMAGES,
    ),
]
Scale = Annotated[
    str | None,
    typer.Option(metavar="X", help="Factor on the pixels 0..255.", show_default="1/255", rich_help_panel=_IMAGES),
]
Channels = Annotated[
    str | None,
    typer.Option(
        metavar="RGB|BGR|L", help="Order of the channels; L is grey.", show_default="RGB or L", rich_help_panel=_IMAGES
    ),
]
Resize = Annotated[
    str | None,
    typer.Option(
        metavar="stretch|crop",
        help="Change the aspect ratio, or cut out the centre.",
        show_default="stretch",
        rich_help_panel=_IMAGES,
    ),
]
CropFraction = Annotated[
    float | None,
    typer.Option(
        metavar="F",
        help="For --resize crop: share of the sides to keep; 0.875 is the usual 256 to 224.",
        show_default="1",
        rich_help_panel=_IMAGES,
    ),
]


def recipe_from(
    *,
    per_channel: bool = False,
    calibrate: str = "minmax",
    percent: float | None = None,
    activation_type: str = ACTIVATIONS,
    weight_type: str = "int8",
    reduce_range: bool = False,
    exclude: list[str] | None = None,
    only: list[str] | None = None,
    op_types: list[str] | None = None,
    nonfinite: str = "refuse-nan",
    subgraphs: bool = False,
    quant_format: str = "qdq",
    overrides: Path | None = None,
) -> Recipe:
    """Build the recipe that options ask for.

    Returns:
        The recipe; its rules say which option they come from.

    Raises:
        OptionError: An option has a value that does not exist, or does not go with another.
    """
    from quantlab.calibration import calibrator
    from quantlab.plan import RecipeRule
    from quantlab.workflow.static import make_recipe

    # The rule that repeats onnxruntime's numbers keeps onnxruntime's name for the option.
    option = "percentile" if calibrate == "onnxruntime_percentile" else "percent"
    options = {} if percent is None else {option: percent}
    calibrator(calibrate, options)  # refuse a wrong rule before any model is read
    recipe = make_recipe(
        op_types_to_quantize=_separated(op_types),
        per_channel=per_channel,
        reduce_range=reduce_range,
        activation_type=activation_type,
        weight_type=weight_type,
        calibrate_method=calibrate,
        calibrate_options=options,
        quant_format=_choice(quant_format, ("QDQ", "QOperator")) or quant_format,
    )
    rules = [rule for name in exclude or () for rule in _excluded(name)]
    if only:
        rules.append(RecipeRule(nodes=tuple(only), ops=recipe.op_types or (), because="listed by --only"))
        rules.append(RecipeRule(quantize=False, because="not listed by --only"))
    chosen = replace(recipe, rules=tuple(rules), subgraphs=subgraphs)
    chosen = replace(chosen, overrides=_overrides_of(overrides)) if overrides is not None else chosen
    return replace(chosen, nonfinite=nonfinite)  # type: ignore[arg-type]  # checked by Recipe


def _excluded(name: str) -> tuple[RecipeRule, ...]:
    """Return the rules of one --exclude: for a name or pattern, or those in the recipe of a file that leave nodes."""
    import json

    from quantlab.plan import Recipe, RecipeRule

    if not name.startswith("@"):
        return (RecipeRule(nodes=(name,), quantize=False, because=f"excluded by --exclude {name!r}"),)
    try:
        plain = json.loads(Path(name[1:]).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise OptionError(f"--exclude {name!r} cannot be read: {error}") from error
    if not isinstance(plain, dict):
        raise OptionError(f"--exclude {name!r} must be a JSON object with the rules of a recipe, got {plain!r:.60}")
    rules = Recipe.from_json(plain).rules
    if wrong := next((rule for rule in rules if rule.quantize), None):
        raise OptionError(f"--exclude {name!r} has a rule that leaves nothing in float: {wrong.nodes or wrong.ops}")
    return rules


def _overrides_of(path: Path) -> dict[str, TensorOverride]:
    """Read a file of overrides, in any layout that `quantlab.plan.parse_overrides` takes."""
    import json

    from quantlab.plan import parse_overrides

    try:
        return parse_overrides(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise OptionError(f"--overrides {str(path)!r} cannot be read: {error}") from error


def rule_given(calibrate: str, percent: float | None) -> str | None:
    """Return what was given of a range rule, or None where both options stand at their defaults."""
    return None if calibrate == "minmax" and percent is None else calibrate


def _separated(words: list[str] | None) -> list[str] | None:
    return [part.strip() for word in words for part in word.split(",") if part.strip()] if words else None


def images_from(
    *,
    layout: str | None,
    size: str | None,
    mean: str | None,
    std: str | None,
    scale: str | None,
    channels: str | None,
    resize: str | None,
    crop_fraction: float | None,
) -> ImageOptions | None:
    """Build the image options, or None where none was given.

    Raises:
        OptionError: A value cannot be read or is not allowed.
    """
    from quantlab.data import ImageOptions

    given: dict[str, Any] = {
        "layout": _choice(layout, ("NCHW", "NHWC", "auto")),
        "size": None if size is None else _size(size),
        "mean": None if mean is None else _floats("--mean", mean),
        "std": None if std is None else _floats("--std", std),
        "scale": None if scale is None else _ratio("--scale", scale),
        "channels": _choice(channels, ("RGB", "BGR", "L", "auto")),
        "resize": _choice(resize, ("stretch", "crop")),
        "crop_fraction": crop_fraction,
    }
    if all(value is None for value in given.values()):
        return None
    return ImageOptions(**{name: value for name, value in given.items() if value is not None})


def _choice(word: str | None, allowed: tuple[str, ...]) -> str | None:
    """Return the allowed word that equals `word` but for case; what is unknown is left to ImageOptions to refuse."""
    return next((one for one in allowed if word is not None and one.lower() == word.lower()), word)


def _size(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise OptionError(f"--size {text!r} is no size: give 224, or height x width such as 224x320")
    height, width = (int(part) for part in (parts * 2)[:2])
    return height, width


def _floats(option: str, text: str) -> tuple[float, ...]:
    return tuple(_ratio(option, part) for part in text.split(","))


def _ratio(option: str, text: str) -> float:
    """Read a number, or a fraction such as 1/255."""
    above, _, below = text.partition("/")
    try:
        return float(above) / float(below or "1")
    except (ValueError, ZeroDivisionError):
        raise OptionError(
            f"{option} {text!r} is no number: give numbers such as 0.485, or fractions such as 1/255"
        ) from None


def state_from(words: list[str] | None) -> dict[str, str]:
    """Read pairs such as `hn=h0`.

    Args:
        words: What was given for --state; names may contain `=` on the left.

    Returns:
        Output to input.

    Raises:
        OptionError: Something is no pair, or an output stands in two.
    """
    pairs: dict[str, str] = {}
    for word in words or ():
        output, equals, given = word.rpartition("=")
        if not (output and equals and given):
            raise OptionError(f"--state {word!r} is no pair: give the output and the input it becomes, as in hn=h0")
        if output in pairs:
            raise OptionError(f"--state names the output {output!r} twice: keep one pair")
        pairs[output] = given
    return pairs


def engine_from(
    *,
    threads: int,
    memory: int,
    checkpoint: Path | None,
    state: list[str] | None = None,
    unoptimized: bool = False,
) -> Engine:
    """Build the engine of a calibration from options.

    Args:
        threads: Threads in one run of the model.
        memory: MiB of activations held at a time.
        checkpoint: File to save to and go on from, or None.
        state: What was given for --state.
        unoptimized: Whether onnxruntime leaves the graph as it is.

    Returns:
        The engine.

    Raises:
        OptionError: The state cannot be read.
    """
    from quantlab.backend import OrtBackend
    from quantlab.workflow.engine import Engine

    return Engine(
        backend=OrtBackend(threads=threads, optimize=not unoptimized),
        budget=memory * 2**20,
        checkpoint=checkpoint,
        state=state_from(state),
    )
