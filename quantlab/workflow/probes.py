"""A probe is the smallest graph in which an operator can be quantized, to ask its rule what becomes of it.

    x -> Sigmoid -> the operator, with constants for everything else that it must be given

What an operator must be given is read from ONNX's schemas, so that one whose rule is new can be asked too. A Sigmoid
has a grid in every format. Some operators want one behind each of their inputs, such as Where, and some want constants
only, such as Gather on integers: there are probes of these kinds too. A probe is planned and written, never run.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from quantlab.arrays import DTYPES, INT32, QuantSpec, Range
from quantlab.errors import OptionError, QuantlabWarning
from quantlab.graph import GraphView
from quantlab.plan import (
    Calibrated,
    NodePlan,
    QuantPlan,
    Recipe,
    RecipeRule,
    Refuse,
    activation_spec,
    draft,
    refine,
    resolve,
    weight_spec,
)
from quantlab.plan.recipe import Format
from quantlab.rewrite import write_qoperator
from quantlab.workflow.fitting import heard

Granularity: TypeAlias = Literal["per tensor", "per channel", "blocked"]
"""How many scales a weight has: one, one for each output channel, or one for each block of neighbours."""

GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)

TYPES = tuple(name for name, row in DTYPES.items() if row is not INT32)
"""Names of the types that a recipe may ask for; int32 is for biases."""

NODE = "probe"
"""Name of the node that is asked about."""

OPSET = 21
SIZE = 4
BLOCK = 2
_FLOAT, _BOOL = "tensor(float)", "tensor(bool)"
_ROUNDINGS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One way to quantize, by names.

    Attributes:
        activation: Type of activations.
        weight: Type of weights.
        granularity: Of the weights' scales.
    """

    activation: str = "uint8"
    weight: str = "int8"
    granularity: Granularity = "per tensor"


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What the rules made of it, where the operator does not stay in float.

    Attributes:
        plan: The whole plan.
        node: What becomes of the operator.
        weights: Grids of the constants that its rule treats as weights.
    """

    plan: QuantPlan
    node: NodePlan
    weights: tuple[QuantSpec, ...]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """An operator in its graph, to be quantized in one format.

    Attributes:
        operator: Operator type, with its domain in front where that is not ONNX's own.
        format: The format.
        model: The graph.
        view: Its index.
        listed: Whether the operator is asked for by its type.
    """

    operator: str
    format: Format
    model: onnx.ModelProto
    view: GraphView
    listed: bool

    def ask(self, asked: Asked) -> Planned | Refuse:
        """Plan the graph, with all checks that come before measuring.

        Args:
            asked: Types and granularity.

        Returns:
            What becomes of the operator, or why it stays in float or the options are refused.
        """
        try:
            recipe = _recipe(self.format, asked, self.operator.rpartition(".")[2] if self.listed else None)
            wanted = draft(self.view, recipe)
            with warnings.catch_warnings(action="ignore", category=QuantlabWarning):  # nobody will run this model
                plan = heard(refine(wanted, self.view), recipe, [self.view])
        except OptionError as error:
            return Refuse(str(error))
        node, grids = plan.nodes[NODE], plan.tensors
        if node.status == "float":
            return Refuse(node.reason)
        names = [wish.tensor for wish in wanted.nodes[-1].wishes if wish.role == "weight"]
        return Planned(plan=plan, node=node, weights=tuple(grids[name].spec for name in names if name in grids))

    def written(self, plan: QuantPlan) -> str:
        """Return the operator that a model has in place of the probed one; the same one in format QDQ."""
        if self.format == "QDQ":
            return str(self.view.nodes[-1].op_type)
        whole = Calibrated(values=Range(np.asarray(-1.0), np.asarray(1.0)), source="a probe is not measured")
        resolved = resolve(plan, dict.fromkeys(plan.observed(), whole), self.view)
        model = write_qoperator(self.model, resolved, view=self.view)
        return str([node.op_type for node in model.graph.node if node.op_type not in _ROUNDINGS][-1])


def probes(operator: str, kind: Format) -> Iterator[Probe]:
    """Yield the ways in which an operator is asked about.

    Args:
        operator: Operator type, with its domain in front where that is not ONNX's own.
        kind: The format.

    Yields:
        Probes: one input behind a Sigmoid, every input, none; then these again with the operator listed in `op_types`.
    """
    models = [_model(operator, behind) for behind in (1, 99, 0)]
    views = [GraphView.of(model) for model in models]
    for listed in (False, True):
        for model, view in zip(models, views, strict=True):
            yield Probe(operator=operator, format=kind, model=model, view=view, listed=listed)


@lru_cache(maxsize=4096)
def _recipe(kind: Format, asked: Asked, listed: str | None) -> Recipe:
    return Recipe(
        activation=activation_spec(asked.activation),
        weight=weight_spec(asked.weight),
        per_channel=asked.granularity == "per channel",
        block_size=BLOCK if asked.granularity == "blocked" else None,
        format=kind,
        rules=() if listed is None else (RecipeRule(ops=(listed,)),),
    )


def _model(operator: str, behind: int) -> onnx.ModelProto:
    """Build the graph; the first `behind` float inputs are made by Sigmoids, all others are constant."""
    domain, _, op = operator.rpartition(".")
    inputs, outputs = _signature(op, domain)
    floats = [index for index, kind in enumerate(inputs) if kind == _FLOAT]
    made = [f"t{index}" for index in floats[:behind]]
    names = [f"t{index}" if index in floats[:behind] else f"c{index}" for index in range(len(inputs))]
    stored = [
        numpy_helper.from_array(_constant(kind, index in floats[2:]), name)
        for index, (kind, name) in enumerate(zip(inputs, names, strict=True))
        if name not in made
    ]
    nodes = [helper.make_node("Sigmoid", ["x"], [name], name=f"head_{name}") for name in made]
    results = [helper.make_tensor_value_info(f"y{index}", _code(kind), None) for index, kind in enumerate(outputs)]
    nodes.append(helper.make_node(op, names, [value.name for value in results], name=NODE, domain=domain))
    x, *between = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [SIZE, SIZE]) for name in ("x", *made))
    graph = helper.make_graph(nodes, "probe", [x] if made else [], results, stored, value_info=between)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])


def _signature(op: str, domain: str) -> tuple[list[str], list[str]]:
    """Return the types of what an operator must be given and of what it must make: float wherever that is allowed."""
    if not onnx.defs.has(op, OPSET, domain):
        return [_FLOAT] * 3, [_FLOAT]  # none of ONNX's: data, a matrix and a vector
    schema = onnx.defs.get_schema(op, OPSET, domain)
    options = onnx.defs.OpSchema.FormalParameterOption
    needed = [one for one in schema.inputs if one.option != options.Optional]
    needed += [one for one in schema.inputs if one.option == options.Variadic]
    made = [one for one in schema.outputs if one.option != options.Optional]
    return [_kind(one) for one in needed], [_kind(one) for one in made]


def _kind(one: onnx.defs.OpSchema.FormalParameter) -> str:
    return next((kind for kind in (_FLOAT, _BOOL) if kind in one.types), "tensor(int64)")


def _code(kind: str) -> int:
    return int({_FLOAT: TensorProto.FLOAT, _BOOL: TensorProto.BOOL}.get(kind, TensorProto.INT64))


def _constant(kind: str, vector: bool) -> npt.NDArray[np.generic]:
    """Return a matrix for data and weights, or a vector for what comes behind them."""
    if kind == _FLOAT:
        return np.ones(SIZE if vector else (SIZE, SIZE), np.float32)
    return np.ones(1, np.bool_ if kind == _BOOL else np.int64)
