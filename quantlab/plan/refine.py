"""Refine: turn wishes into one decision a tensor and one a node; still no number.

Grids that nodes ask for outright are noted first. Then the nodes are walked in topological order and the conditional
wishes are settled: sharing needs a grid to share, a Relu or Clip is absorbed where the grid behind it saturates at the
same bounds, a bias needs the grids whose scales it multiplies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from quantlab.arrays import QuantSpec
from quantlab.errors import OptionError, RangeError
from quantlab.graph import FLOATS, GraphView
from quantlab.plan.draft import Draft, NodeDraft
from quantlab.plan.entries import Conversion
from quantlab.plan.forms import obstacles
from quantlab.plan.mixed import converted_for, with_conversions
from quantlab.plan.override_checks import channels_of, check_types, named
from quantlab.plan.override_numbers import with_numbers
from quantlab.plan.quantplan import NodePlan, QuantPlan, TensorPlan
from quantlab.plan.recipe import Recipe
from quantlab.plan.wishes import Wish

_NAMES = {kind: kind.name for kind in FLOATS.values()}
"""NumPy works the name of a type out each time anew."""


@dataclass
class _Board:
    """The decisions so far; lives only while `refine` runs."""

    view: GraphView
    recipe: Recipe
    conversions: Mapping[str, Conversion]
    tensors: dict[str, TensorPlan] = field(default_factory=dict)
    nodes: dict[str, NodePlan] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    asking: set[tuple[str, str]] = field(default_factory=set)  # node and tensor that it wants to read rounded
    reasons: dict[str, list[str]] = field(default_factory=dict)  # joined at the end: a tensor may have many readers

    @property
    def on_integers(self) -> bool:
        return self.recipe.format == "QOperator"

    def why(self, tensor: str) -> str:
        return "; ".join(self.reasons[tensor])

    def decide(self, tensor: str, entry: TensorPlan) -> None:
        """Enter what overrides all that was noted."""
        self.tensors[tensor] = entry
        self.reasons.pop(tensor, None)

    def plan_for(self, wish: Wish, reason: str) -> TensorPlan:
        kind = self.view.float_type(wish.tensor)
        spec = wish.spec if wish.like is None else self.tensors[wish.like].spec
        assert spec is not None  # a wish without `like` carries its grid
        # A constant needs no calibration whatever it is to its reader.
        constant = wish.role == "activation" and wish.tensor in self.view.constants
        reduced = constant and self.recipe.numerics.reduced_constants and self.recipe.weight.reduce_range
        if reduced and wish.like is None and wish.tensor not in self.recipe.overrides:
            spec = replace(spec, reduce_range=True, narrow_range=False)
        return TensorPlan(
            role="weight" if constant else wish.role,
            spec=spec,
            dtype="float32" if kind is None else _NAMES[kind],
            reason=reason,
            product=wish.product,
            factor=wish.factor,
            fixed=wish.fixed,
        )


def refine(wanted: Draft, view: GraphView) -> QuantPlan:
    """Decide what every tensor and node gets.

    Args:
        wanted: The draft of this graph.
        view: The graph.

    Returns:
        A plan without numbers.
    """
    plan = _refined(wanted, view)
    layout = wanted.recipe.layout
    while wanted.recipe.format == "QDQ" and layout.converts and not layout.dedicated_pairs:
        conversions = converted_for(plan, view, wanted.recipe, wanted.conversions)
        if conversions == wanted.conversions:
            break
        wanted = replace(wanted, conversions=conversions)
        plan = _refined(wanted, view)
    # A node without an integer form asks for nothing, and that may take the grid from another.
    while wanted.recipe.format == "QOperator" and (found := obstacles(plan, view)):
        wanted = wanted.refusing(found)
        plan = _refined(wanted, view)
    return plan


def _refined(wanted: Draft, view: GraphView) -> QuantPlan:
    recipe = wanted.recipe
    board = _Board(view, recipe, wanted.conversions, notes=list(wanted.notes))
    for entry in wanted.nodes:
        node = entry.node.name
        for wish in entry.wishes:
            board.asking.add((node, wish.tensor))
            board.asking.update((node, other) for other in wish.given)
            if (other := wish.like or wish.absorbs) is not None:
                board.asking.add((node, other))
            elif not wish.given:
                _note(board, wish, entry)
    for entry in wanted.nodes:
        _settle(board, entry)
    _drop_idle_biases(board)
    readers = {name: _readers(board, name) for name in board.tensors}
    tensors = {}
    for name in _in_order(view, board.tensors):
        tensor, who = board.tensors[name], readers[name]
        if len(board.reasons.get(name, ())) > 1:
            tensor = replace(tensor, reason=board.why(name), readers=who)
        elif who is not None:
            tensor = replace(tensor, readers=who)
        tensors[name] = _overridden(board, name, tensor) if name in board.recipe.overrides else tensor
    sets = {name: None if who is None else frozenset(who) for name, who in readers.items()}
    for entry in wanted.nodes:
        _name_what_stays_float(board, entry, sets)
    plan = QuantPlan(
        tensors=tensors,
        nodes=board.nodes,
        min_real_range=recipe.min_real_range,
        notes=tuple(board.notes),
        layout=recipe.layout,
        numerics=recipe.numerics,
        format=recipe.format,
    )
    plan = with_conversions(plan, wanted.conversions)
    check_types(plan, view, recipe.overrides)
    return plan


def _overridden(board: _Board, name: str, tensor: TensorPlan) -> TensorPlan:
    override = board.recipe.overrides[name]
    try:
        return with_numbers(tensor, override, channels_of(name, override, board.view), board.recipe.activation)
    except (OptionError, RangeError) as error:
        raise named(name, error) from error


def _label(entry: NodeDraft) -> str:
    return f"{entry.node.op_type} {entry.node.name!r}"


def _note(board: _Board, wish: Wish, entry: NodeDraft) -> None:
    """Enter an outright wish; the first one stands unless it can be widened to serve both."""
    verb = "made by" if wish.tensor in entry.node.output else "read by"
    reason = f"{wish.role} {verb} {_label(entry)}"
    found = board.tensors.get(wish.tensor)
    converted = wish.product is not None and _reads_converted(board, entry, wish.product[0])
    if found is None:
        entered = board.plan_for(wish, reason)
        board.tensors[wish.tensor] = replace(entered, on_converted=True) if converted else entered
        board.reasons[wish.tensor] = [reason]
        return
    if (found.product, found.factor, found.on_converted) != (wish.product, wish.factor, converted):
        # The integer kernels take the scale of a bias for granted, so it serves one product only.
        board.notes.append(
            f"{_label(entry)} reads {wish.tensor!r} in float, for its grid serves another: {board.why(wish.tensor)}"
        )
        board.asking.discard((entry.node.name, wish.tensor))
        return
    spec = found.spec
    if wish.spec is not None and wish.spec.axis != spec.axis:
        board.notes.append(
            f"{wish.tensor!r} gets one scale for the whole tensor, for its readers want different axes: "
            f"{board.why(wish.tensor)}; {reason}"
        )
        spec = replace(spec, axis=None, block_size=None)
    board.reasons[wish.tensor].append(reason)
    if spec is not found.spec or (wish.fixed and not found.fixed):
        board.tensors[wish.tensor] = replace(found, spec=spec, fixed=found.fixed or wish.fixed)


def _reads_converted(board: _Board, entry: NodeDraft, tensor: str) -> bool:
    override, found = board.recipe.overrides.get(tensor), board.conversions.get(tensor)
    asked = override is not None and override.converts_for(entry.node.name)
    return asked or (found is not None and found.is_for(entry.node.name))


def _second_grid(board: _Board, tensor: str) -> QuantSpec | None:
    """Return the grid that a tensor is converted to, by its override or because it has to be."""
    override = board.recipe.overrides.get(tensor)
    if override is not None and override.convert is not None:
        return override.convert.spec(board.recipe.activation)
    return board.conversions[tensor].spec if tensor in board.conversions else None


_ALL = "all it reads and makes has a grid"


def _name_what_stays_float(board: _Board, entry: NodeDraft, readers: Mapping[str, frozenset[str] | None]) -> None:
    name = entry.node.name
    if board.nodes[name].reason != _ALL:
        return
    floats = [tensor for tensor in dict.fromkeys(entry.node.input) if board.view.float_type(tensor) is not None]
    left = [repr(tensor) for tensor in floats if not _is_rounded_for(name, readers.get(tensor, frozenset()))]
    left += [repr(tensor) for tensor in entry.left if tensor not in board.tensors]
    if left:
        board.nodes[name] = replace(board.nodes[name], reason=f"{_ALL}, save {', '.join(left)}, which stays float")


def _is_rounded_for(node: str, readers: frozenset[str] | None) -> bool:
    return readers is None or node in readers


def _settle(board: _Board, entry: NodeDraft) -> None:
    name, op = entry.node.name, entry.node.op_type
    if entry.refusal is not None:
        board.nodes[name] = NodePlan(op=op, status="float", reason=entry.refusal)
        return
    decision = NodePlan(op=op, status="quantized", reason=_ALL)
    for wish in entry.wishes:
        if wish.like is not None:
            decision = _share(board, wish, entry) or decision
        elif wish.absorbs is not None:
            decision = _absorb(board, wish, entry)
        elif wish.given:
            decision = _grant(board, wish, entry) or decision
    board.nodes[name] = decision


def _grant(board: _Board, wish: Wish, entry: NodeDraft) -> NodePlan | None:
    """Enter a wish that holds where certain tensors have grids for the whole of them."""
    missing = [name for name in wish.given if not _is_on_one_grid(board, name)]
    if missing:
        reason = f"it chooses between tensors, and {missing[0]!r} has no grid for other reasons"
        return NodePlan(op=entry.node.op_type, status="float", reason=reason)
    _note(board, wish, entry)
    return None


def _is_on_one_grid(board: _Board, name: str) -> bool:
    tensor = board.tensors.get(name)
    return tensor is not None and tensor.product is None and tensor.spec.axis is None


def _share(board: _Board, wish: Wish, entry: NodeDraft) -> NodePlan | None:
    assert wish.like is not None
    source = board.tensors.get(wish.like)
    if source is None or not _is_on_one_grid(board, wish.like):
        # Neither channels nor the scale of a bias stay what they are where values move.
        reason = f"it only moves values, and its input {wish.like!r} has no grid to share"
        return NodePlan(op=entry.node.op_type, status="float", reason=reason)
    root = source.like or wish.like
    shared = board.plan_for(wish, f"moved from {wish.like!r} by {_label(entry)}")
    shared = replace(shared, role="activation", product=None)
    if (override := board.recipe.overrides.get(wish.tensor)) is not None:
        board.decide(wish.tensor, replace(shared, spec=override.grid.spec(shared.spec)))
        return None
    second = _second_grid(board, root)
    if second is not None and (source.on_converted or _reads_converted(board, entry, wish.like)):
        shared = replace(shared, spec=second, on_converted=True)
    board.decide(wish.tensor, replace(shared, like=root))
    return None


def _absorb(board: _Board, wish: Wish, entry: NodeDraft) -> NodePlan:
    assert wish.absorbs is not None
    assert wish.spec is not None
    assert wish.within is not None
    op, label, before = entry.node.op_type, _label(entry), wish.absorbs
    source = board.tensors.get(before)
    if source is None:
        return NodePlan(op=op, status="float", reason=f"its input {before!r} has no grid")
    output = board.plan_for(wish, f"activation made by {label}")
    if board.on_integers and source.fixed is not None:  # of an operator whose kernel has one grid for its output
        output = replace(output, fixed=_clipped(source.fixed, wish.within))
    if output.spec is not source.spec and not {before, wish.tensor} & board.recipe.overrides.keys():
        output = replace(output, spec=source.spec)
    alone = board.view.only_reader(before) is not None and before in board.view.producers
    obstacle = "the recipe keeps it" if board.recipe.keep_clipping else _obstacle(source, wish.within, alone)
    if obstacle is None and before in board.recipe.overrides:
        obstacle = "its input has an override"
    if obstacle is None and output.spec.symmetric:
        obstacle = "a symmetric grid does not end where it clips"
    if obstacle is None:
        del board.tensors[before]
        board.decide(wish.tensor, replace(output, absorbs=before, within=wish.within))
        return NodePlan(op=op, status="absorbed", reason="the grid of its output saturates where it clips")
    if alone and source.like is None:
        # What is measured behind it is nearer than what the definition of an operator says.
        board.tensors[before] = replace(source, range_of=wish.tensor, fixed=source.fixed if board.on_integers else None)
    if board.on_integers:
        return NodePlan(op=op, status="float", reason=f"no {op} on integers: {obstacle}")
    board.decide(wish.tensor, output)
    return NodePlan(op=op, status="quantized", reason=f"kept between grids: {obstacle}")


def _clipped(values: tuple[float, float], within: tuple[float, float]) -> tuple[float, float]:
    """Return what of a range comes through a Relu or Clip."""
    return max(values[0], within[0]), min(values[1], within[1])


def _obstacle(source: TensorPlan, within: tuple[float, float], alone: bool) -> str | None:
    if not alone:
        return "others read its input too"
    if source.like is not None:
        return f"its input shares the grid of {source.like!r}"
    if source.absorbs is not None:
        return f"its input takes over from {source.absorbs!r} already"
    if source.spec.symmetric:
        return "a symmetric grid does not end where it clips"
    if not within[0] <= 0 <= within[1]:
        return f"its bounds {within[0]:g}..{within[1]:g} leave out zero, which every grid contains"
    return None


def _drop_idle_biases(board: _Board) -> None:
    """A bias follows its weight's granularity, and goes where one of its factors got no grid."""
    for name, tensor in list(board.tensors.items()):
        if tensor.product is None:
            continue
        factors = [board.tensors.get(factor) for factor in tensor.product]
        if factors[0] is None or factors[1] is None:
            del board.tensors[name]
        elif not factors[1].spec.per_channel:
            board.tensors[name] = replace(tensor, spec=replace(tensor.spec, axis=None))


def _readers(board: _Board, tensor: str) -> tuple[str, ...] | None:
    """Name who reads the rounded tensor: everybody behind a quantized node, else the quantized ones that asked."""
    producer = board.view.producers.get(tensor)
    behind_quantized = producer is not None and board.nodes[producer.name].status != "float"
    behind_quantized |= board.recipe.layout.rounded_for_all and tensor not in board.view.constants
    if board.recipe.layout.dedicated_pairs and board.tensors[tensor].role == "activation":
        several = _quantized_readers(board, tensor)
        if len(several) > 1:
            return several if behind_quantized else _asking(board, tensor)
    return None if behind_quantized else _asking(board, tensor)


def _quantized_readers(board: _Board, tensor: str) -> tuple[str, ...]:
    names = dict.fromkeys(node.name for node in board.view.readers(tensor))
    return tuple(name for name in names if board.nodes[name].status != "float")


def _asking(board: _Board, tensor: str) -> tuple[str, ...]:
    asking = [node.name for node in board.view.readers(tensor) if (node.name, tensor) in board.asking]
    return tuple(name for name in asking if board.nodes[name].status == "quantized")


def _in_order(view: GraphView, wanted: Iterable[str]) -> Iterator[str]:
    """Yield the wanted tensors in the order in which the graph takes them in, reads and makes them."""
    left = set(wanted)
    for names in (view.inputs, *(names for node in view.nodes for names in (node.input, node.output))):
        for name in names:
            if name in left:
                left.remove(name)
                yield name
