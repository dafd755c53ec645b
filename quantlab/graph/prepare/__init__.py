"""Preparing a float model: the same function, in the form that planning and rewriting expect.

Afterwards constants are initializers, nodes have names of their own and lie in topological order, types and shapes are
known as far as onnx can tell, and what only passes data on or can be folded is gone.
"""

from __future__ import annotations

import onnx

from quantlab.graph.check import CHECK_FLOAT_MODEL
from quantlab.graph.passes import Pass, PassResult, Sequential
from quantlab.graph.prepare.arithmetic import fold_arithmetic
from quantlab.graph.prepare.batch_norm import fold_batch_norm
from quantlab.graph.prepare.constants import LIFT_CONSTANTS
from quantlab.graph.prepare.dead_nodes import DROP_DEAD_NODES
from quantlab.graph.prepare.duplicates import MERGE_DUPLICATES
from quantlab.graph.prepare.fold_constants import fold_constants
from quantlab.graph.prepare.forward import FOLD_FORWARD
from quantlab.graph.prepare.functions import INLINE_FUNCTIONS
from quantlab.graph.prepare.gelu import fuse_gelu
from quantlab.graph.prepare.identity import REMOVE_IDENTITY
from quantlab.graph.prepare.inputs import DROP_INITIALIZER_INPUTS
from quantlab.graph.prepare.ir_version import MAX_IR_VERSION, STATE_IR_VERSION
from quantlab.graph.prepare.join_moves import JOIN_MOVES
from quantlab.graph.prepare.layer_norm import FUSE_LAYER_NORM
from quantlab.graph.prepare.masks import NOTE_MASKS
from quantlab.graph.prepare.matmul_add import JOIN_MATMUL_ADD
from quantlab.graph.prepare.node_names import NAME_NODES
from quantlab.graph.prepare.open_sizes import OPEN_SIZES
from quantlab.graph.prepare.opset import raise_opset
from quantlab.graph.prepare.order import SORT_NODES
from quantlab.graph.prepare.shapes import INFER_SHAPES
from quantlab.graph.prepare.shared_constants import separate_shared
from quantlab.graph.prepare.unused import DROP_UNUSED

__all__ = [
    "DROP_DEAD_NODES",
    "DROP_INITIALIZER_INPUTS",
    "DROP_UNUSED",
    "FOLD_FORWARD",
    "FUSE_LAYER_NORM",
    "INFER_SHAPES",
    "INLINE_FUNCTIONS",
    "JOIN_MATMUL_ADD",
    "JOIN_MOVES",
    "LIFT_CONSTANTS",
    "MAX_IR_VERSION",
    "MERGE_DUPLICATES",
    "NAME_NODES",
    "NOTE_MASKS",
    "OPEN_SIZES",
    "REMOVE_IDENTITY",
    "SORT_NODES",
    "STATE_IR_VERSION",
    "fold_arithmetic",
    "fold_batch_norm",
    "fold_constants",
    "fuse_gelu",
    "prepare",
    "raise_opset",
    "separate_shared",
]


def prepare(
    model: onnx.ModelProto,
    *,
    min_opset: int = 13,
    zero_dead_channels: bool = False,
    fold_forward: bool = False,
    contrib_gelu: bool = False,
    separate_weights: bool = False,
    shapes: Pass = INFER_SHAPES,
    optimize: bool = True,
) -> PassResult:
    """Bring a float model into the form that is planned and rewritten; outputs stay equal within float rounding.

    Args:
        model: A float model; it is not changed. Large weights may stay external data, in files that `quantlab.load`
            has attached to it; data whose file nobody has looked up is refused.
        min_opset: The opset is raised to this where it is lower; 13 is what per-channel quantization needs.
        zero_dead_channels: Silence channels of a BatchNormalization that never carried anything, instead of folding
            them exactly; see `batch_norm`.
        fold_forward: Fold normalizations and constants into the linear node behind them too, see `forward`.
        contrib_gelu: Below opset 20, fuse Gelu into onnxruntime's own operator, see `gelu`.
        separate_weights: Copy weights whose readers want their channels on different axes, see `shared_constants`.
        shapes: The pass that finds types and shapes: onnx's inference, or a ladder with more rungs, see `shapes`.
        optimize: Fold, fuse and remove nodes. Without it they stay as they are, but for those that make constants.

    Returns:
        The prepared copy, with a note for each change and for each thing that had to be left alone.

    Raises:
        ModelError: The model is quantized already, broken, or has an operator that cannot be raised to `min_opset`.

    Example:
        >>> graph = onnx.parser.parse_graph("g (float[2] x) => (float[2] y) { t = Identity(x) y = Relu(t) }")
        >>> result = prepare(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]))
        >>> [node.op_type for node in result.model.graph.node]
        ['Relu']
    """
    # Constants first and in order: conversion and inference find more when they see values. Conversion makes new ones.
    begin = (
        CHECK_FLOAT_MODEL,
        STATE_IR_VERSION,
        OPEN_SIZES,
        DROP_INITIALIZER_INPUTS,
        INLINE_FUNCTIONS,
        SORT_NODES,
        LIFT_CONSTANTS,
        raise_opset(min_opset),
        LIFT_CONSTANTS,
        NAME_NODES,
    )
    simpler = (
        JOIN_MOVES,
        REMOVE_IDENTITY,
        MERGE_DUPLICATES,
        FUSE_LAYER_NORM,
        fuse_gelu(contrib=contrib_gelu),
        JOIN_MATMUL_ADD,
        fold_arithmetic(),
        fold_batch_norm(zero_dead=zero_dead_channels),
        fold_arithmetic(),  # what came behind a BatchNormalization
        *([FOLD_FORWARD] if fold_forward else []),
    )
    end = (separate_shared(weights=separate_weights), *([DROP_DEAD_NODES] if optimize else []), NOTE_MASKS, DROP_UNUSED)
    folded = (fold_constants(), shapes, *simpler) if optimize else (shapes,)
    return Sequential(*begin, *folded, *end)(model)
