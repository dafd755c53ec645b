"""Overrides held against a model, before anything is measured: every tensor, axis, length, node and type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import onnx

from quantlab.errors import OptionError, RangeError, nearest
from quantlab.graph import GraphView
from quantlab.plan.axes import channel_axis
from quantlab.plan.overrides import GridOverride, TensorOverride
from quantlab.plan.quantplan import QuantPlan
from quantlab.plan.recipe import Format

_LISTS = ("rmin", "rmax", "scale", "zero_point")
_LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def check_overrides(overrides: Mapping[str, TensorOverride], views: Sequence[GraphView], kind: Format) -> None:
    """Refuse overrides that do not fit a model.

    Args:
        overrides: Tensor to override.
        views: The prepared main graph and the bodies that are quantized too.
        kind: The format that is to be written.

    Raises:
        OptionError: An override does not fit; the text names the tensor, what it got and what is allowed.
    """
    for name, override in overrides.items():
        homes = [view for view in views if _knows(view, name)]
        if not homes:
            known = [tensor for view in views for tensor in _tensors(view)]
            raise OptionError(
                f"there is an override of tensor {name!r}, which the prepared model does not have"
                f"{nearest(name, known)} (preparing a model may fold tensors away; `quantlab plan` names those it "
                "quantizes)"
            )
        for view in homes:
            try:
                _check(name, override, view, kind)
            except OptionError as error:
                raise OptionError(f"override of tensor {name!r}: {error}") from error


def in_graph(overrides: Mapping[str, TensorOverride], view: GraphView) -> dict[str, TensorOverride]:
    """Return the overrides of a graph's own tensors, with axes counted from the front.

    Args:
        overrides: Checked overrides, perhaps of other graphs too.
        view: The graph.

    Returns:
        Tensor to override.
    """
    found = {}
    for name, override in overrides.items():
        if not _knows(view, name):
            continue
        found[name] = (
            override if override.grid.axis is None else _from_the_front(override, override.grid.axis, view, name)
        )
    return found


def _from_the_front(override: TensorOverride, axis: int, view: GraphView, name: str) -> TensorOverride:
    return replace(override, grid=replace(override.grid, axis=axis % len(view.constants[name].dims)))


def channels_of(name: str, override: TensorOverride, view: GraphView) -> int:
    """Return the number of channels along an override's axis, 1 without one."""
    axis = override.grid.axis
    return 1 if axis is None else int(view.constants[name].dims[axis])


def check_types(plan: QuantPlan, view: GraphView, overrides: Mapping[str, TensorOverride]) -> None:
    """Refuse overrides by which some node multiplies what onnxruntime cannot multiply.

    Args:
        plan: The refined plan.
        view: Its graph.
        overrides: Tensor to override.

    Raises:
        OptionError: A node multiplies int8 activations by uint8 weights; the text names all three.
    """
    for node in view.nodes if overrides else ():
        if node.op_type not in _LINEAR or plan.nodes[node.name].status != "quantized":
            continue
        x, w = (plan.tensors.get(name) for name in node.input[:2])
        if x is None or w is None or not overrides.keys() & set(node.input[:2]):
            continue
        if (x.spec_for(node.name).dtype.name, w.spec.dtype.name) == ("int8", "uint8") and w.role == "weight":
            raise OptionError(
                f"by the overrides, {node.op_type} {node.name!r} multiplies {node.input[0]!r}, int8, by "
                f"{node.input[1]!r}, uint8, for which onnxruntime has no kernel: make the weight int8, or the "
                "activation uint8"
            )


def idle_overrides(overrides: Mapping[str, TensorOverride], plans: Iterable[QuantPlan]) -> Iterator[str]:
    """Yield a line for each override of a tensor that no plan quantizes.

    Args:
        overrides: Tensor to override.
        plans: The plan of the main graph, and those of the bodies.

    Yields:
        Words that name the tensor.
    """
    planned = {name for plan in plans for name in plan.tensors}
    for name in overrides:
        if name not in planned:
            yield f"the override of tensor {name!r} does nothing: no quantized node reads or makes it"


def asymmetric_overrides(overrides: Mapping[str, TensorOverride], plan: QuantPlan, symmetric: bool) -> Iterator[str]:
    """Yield a line for each weight whose given zero point leaves the symmetry that the recipe asks of weights.

    Args:
        overrides: Tensor to override.
        plan: The refined plan.
        symmetric: Whether the recipe's grid of weights is symmetric.

    Yields:
        Words that name the tensor.
    """
    for name, override in overrides.items():
        tensor = plan.tensors.get(name)
        if tensor is None or tensor.role != "weight" or not symmetric or override.grid.zero_point is None:
            continue
        if not tensor.spec.symmetric:
            yield (
                f"the override of weight {name!r} gives zero point {override.grid.zero_point[0]}, "
                "and the recipe asks for symmetric weights: the override stands"
            )


def _knows(view: GraphView, name: str) -> bool:
    return name in view.producers or name in view.constants or name in view.inputs


def _tensors(view: GraphView) -> list[str]:
    return [*view.producers, *view.constants, *view.inputs]


def _check(name: str, override: TensorOverride, view: GraphView, kind: Format) -> None:
    if view.float_type(name) is None:
        code = view.element_type(name)
        what = "of unknown type" if code is None else onnx.TensorProto.DataType.Name(code).lower()
        raise OptionError(f"it is {what}; only float tensors are quantized")
    constant = name in view.constants
    if override.kind is not None and constant != (override.kind == "weight"):
        what, other = ("a constant", "weights") if constant else ("an activation", "activations")
        raise OptionError(
            f"it is {what} of the model, and stands among the overrides of {override.kind}s: move it to {other}"
        )
    if constant:
        _check_constant(name, override, view)
    else:
        maker = view.producers.get(name)
        if kind == "QOperator" and maker is not None and maker.op_type == "Softmax":
            raise OptionError("QLinearSoftmax makes it on a grid that is fixed: leave the override out, or write QDQ")
        _check_activation(name, override, view)


def _check_activation(name: str, override: TensorOverride, view: GraphView) -> None:
    if override.grid.axis is not None:
        raise OptionError("it is an activation, and those have one scale for the whole tensor: leave axis out")
    if override.grid.reduce_range is not None:
        raise OptionError("it is an activation, and reduce_range is for constants: leave it out")
    readers = [node.name for node in view.readers(name)]
    for reader in override.readers or ():
        if reader not in readers:
            raise OptionError(
                f"recv_nodes has {reader!r}, which does not read it{nearest(reader, readers)} (its readers: {readers})"
            )


def _check_constant(name: str, override: TensorOverride, view: GraphView) -> None:
    if override.convert is not None:
        raise OptionError("it is a constant, and only activations are converted: leave convert out")
    if override.grid.axis is None:
        return
    shape = tuple(view.constants[name].dims)
    _check_axis(name, override.grid.axis, shape, view)
    _check_lengths(override.grid, shape)


def _check_axis(name: str, axis: int, shape: tuple[int, ...], view: GraphView) -> None:
    homes = {
        node.op_type: where for node in view.readers(name) if (where := channel_axis(node, name, view)) is not None
    }
    hint = "; ".join(f"the channels of {op} lie on axis {where}" for op, where in homes.items())
    if not -len(shape) <= axis < len(shape):
        allowed = f"0..{len(shape) - 1}" if shape else "none, for it is a scalar"
        raise OptionError(
            f"axis {axis} is out of range for shape {shape} (allowed: {allowed}{f'; {hint}' if hint else ''})"
        )
    for node in view.readers(name):
        where = channel_axis(node, name, view)
        if where is None:
            raise OptionError(
                f"it is read by {node.op_type} {node.name!r}, whose integer kernel takes one scale for the whole of "
                "it: leave axis out (there is a choice for weights of Conv, ConvTranspose and Gemm, and for a single "
                "matrix on the right of MatMul)"
            )
        if axis % len(shape) != where:
            raise OptionError(f"axis is {axis}, and the channels of {node.op_type} {node.name!r} lie on axis {where}")


def _check_lengths(grid: GridOverride, shape: tuple[int, ...]) -> None:
    axis = grid.axis or 0
    for field in _LISTS:
        values = getattr(grid, field)
        if values is not None and len(values) not in (1, shape[axis]):
            raise OptionError(
                f"{field} has {len(values)} values, and axis {axis} of shape {shape} has {shape[axis]} channels: "
                f"give {shape[axis]} values, or one for all"
            )


def named(name: str, error: OptionError | RangeError) -> OptionError:
    """Return an error about an override with the tensor's name in front."""
    return OptionError(f"override of tensor {name!r}: {error}")
