"""`python -m quantlab.ort.preprocess`: pre-processing on the command line, with the options of the peer's module."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from quantlab.errors import QuantlabError
from quantlab.ort.shape_inference import quant_pre_process

_TRUE = ("true", "1", "yes", "on")
_FALSE = ("false", "0", "no", "off")


def _flag(text: str) -> bool:
    """Read true or false; the peer takes any text but the empty one for true."""
    if text.lower() not in (*_TRUE, *_FALSE):
        raise argparse.ArgumentTypeError(f"true or false, got {text!r}")
    return text.lower() in _TRUE


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        arguments: Words behind the command; those of this process by default.
    """
    parser = argparse.ArgumentParser(
        prog="python -m quantlab.ort.preprocess",
        description="Prepare a float model for quantization: optimize the graph, find types and shapes of its tensors.",
    )
    add = parser.add_argument
    add("--input", required=True, help="the float model")
    add("--output", required=True, help="where to write the prepared model")
    for name, what in (
        ("optimization", "leave the nodes as they are"),
        ("onnx_shape", "leave out onnx's shape inference"),
        ("symbolic_shape", "leave out symbolic shape inference"),
    ):
        add(f"--skip_{name}", type=_flag, nargs="?", const=True, default=False, metavar="true|false", help=what)
    add("--auto_merge", action="store_true", help="take symbolic sizes that clash as equal")
    add("--int_max", type=int, default=2**31 - 1, help='ends of slices from here on mean "to the end"')
    add("--guess_output_rank", action="store_true", help="take outputs of unknown operators for tensors like input 0")
    add("--verbose", type=int, default=0, help="log of symbolic inference: 0 nothing, 1 warnings, 3 details")
    add("--save_as_external_data", action="store_true", help="write weights into files beside the model")
    add("--all_tensors_to_one_file", action="store_true", help="into one file, instead of one for each tensor")
    add("--external_data_location", help="name of that one file")
    add("--external_data_size_threshold", type=int, default=1024, help="bytes from which on a tensor goes there")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words behind the command; those of this process by default.

    Returns:
        0, or 2 where something cannot be used; the reason is on standard error.
    """
    given = vars(parse_arguments(arguments))
    try:
        quant_pre_process(given.pop("input"), given.pop("output"), **given)
    except QuantlabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
