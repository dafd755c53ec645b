"""Activations side by side: in front of a QDQ pair, behind it, and in the float model.

    qdq_err     in front of the pair against behind it: what this one rounding does, in the quantized network
    xmodel_err  the float model's tensor against behind the pair: all error made up to here

Where a grid has absorbed a Relu or Clip, what stands in front of the pair has not been clipped yet. It is compared as
the float model goes on: behind that Relu. Else everything that it cuts off would count as rounding error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import tee
from typing import Any

import numpy as np
import onnx

from quantlab.arrays import sqnr_from_powers
from quantlab.debug.matching import Match, Matching, match
from quantlab.debug.noise import Array, compute_signal_to_quantization_noice_ratio, powers
from quantlab.debug.saved import Activations, items, stream_activations, without_saved_tensors
from quantlab.debug.weight_errors import Model, warn_unmatched
from quantlab.errors import DataError
from quantlab.graph import GraphView
from quantlab.graph.files import load
from quantlab.graph.quantized import Rounded, rounded_tensors

Arrays = Sequence[Array]
Sides = dict[str, Arrays]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the three sides of one activation are found.

    Attributes:
        name: What it is called in the result.
        before: Tensor in front of the QuantizeLinear.
        after: Tensor behind the DequantizeLinear.
        exact: Tensor of the float model; None where there is none.
        clip: Ends of a Relu or Clip that the grid has absorbed.
    """

    name: str
    before: str
    after: str
    exact: str | None
    clip: tuple[float, float] | None = None

    def sides(self, rounded: Mapping[str, Arrays], exact: Mapping[str, Arrays]) -> Sides | None:
        """Return the sides, or None where one of the first two was not saved."""
        pre, post = rounded.get(self.before), rounded.get(self.after)
        if pre is None or post is None:
            return None
        clipped = pre if self.clip is None else [np.clip(value, *self.clip).astype(value.dtype) for value in pre]
        found = {"pre_qdq": clipped, "post_qdq": post}
        floats = None if self.exact is None else exact.get(self.exact)
        return found if floats is None else {**found, "float": floats}


def create_activation_matching(
    qdq_activations: Mapping[str, Arrays], float_activations: Mapping[str, Arrays] | None = None
) -> dict[str, Sides]:
    """Lay the activations of a QDQ model beside each other, and beside those of its float model.

    Args:
        qdq_activations: What `collect_activations` returned for the QDQ model. A plain mapping of the same layout, such
            as onnxruntime.quantization's own function makes, is read by its names.
        float_activations: The same for the float model; None compares within the QDQ model alone.

    Returns:
        Name in the float model to `{"pre_qdq": ..., "post_qdq": ..., "float": ...}`, each a list with one array a
        sample; `float` is missing where there is none. With float activations, those without a partner are named in a
        warning.
    """
    exact = float_activations or {}
    found: dict[str, Sides] = {}
    for place in _places(qdq_activations, float_activations):
        sides = place.sides(qdq_activations, exact)
        if sides is not None:
            found.setdefault(place.name, sides)
    if exact:
        why = "no tensor of the float model at its place was saved"
        warn_unmatched("activations", ((name, why) for name, sides in found.items() if "float" not in sides))
    return found


def compute_activation_error(
    activations_match: Mapping[str, Mapping[str, Arrays]],
    err_func: Callable[[Any, Any], float] = compute_signal_to_quantization_noice_ratio,
) -> dict[str, dict[str, float]]:
    """Compare the activations that `create_activation_matching` has laid side by side.

    Args:
        activations_match: What it returned.
        err_func: Makes a number of two lists of arrays; the SQNR in dB by default.

    Returns:
        Name to `{"qdq_err": ..., "xmodel_err": ...}`; the latter is missing where there are no float activations.
    """
    result = {}
    for name, sides in activations_match.items():
        result[name] = {"qdq_err": err_func(sides["pre_qdq"], sides["post_qdq"])}
        if sides.get("float"):
            result[name]["xmodel_err"] = err_func(sides["float"], sides["post_qdq"])
    return result


def stream_activation_error(
    qdq_model: Model, float_model: Model | None, input_reader: Any
) -> dict[str, dict[str, float]]:
    """Compute what `compute_activation_error` does, one sample at a time: memory does not grow with the data.

    Args:
        qdq_model: A QDQ model that saves its tensors, a path or a model.
        float_model: Its float model that saves its tensors; None compares within the QDQ model alone.
        input_reader: A reader with `get_next`, or an iterable of mappings from input name to array; it is read once.

    Returns:
        Name to `{"qdq_err": ..., "xmodel_err": ...}` in dB.

    Raises:
        DataError: The reader gave nothing.
        ModelError: A model does not load or run.
    """
    feeds, again = tee(items(input_reader))  # the two go on in turns: one sample is held
    rounded = load(qdq_model)
    exact = None if float_model is None else load(float_model)
    places = list(_placed(_matching(rounded, exact), rounded))
    total: dict[tuple[str, str], tuple[float, float]] = {}
    second = stream_activations(exact, again) if exact is not None else iter(dict, None)
    for mine in stream_activations(rounded, feeds):
        other = next(second)
        for place in places:
            sides = place.sides(_listed(mine), _listed(other)) or {}
            for kind, reference in (("qdq_err", "pre_qdq"), ("xmodel_err", "float")):
                if reference in sides:
                    signal, noise = total.get((place.name, kind), (0.0, 0.0))
                    more = powers(sides[reference], sides["post_qdq"])
                    total[place.name, kind] = signal + more[0], noise + more[1]
    if not total:
        raise DataError("no data is compared: the reader gave nothing, or the model saves nothing")
    result: dict[str, dict[str, float]] = {}
    for (name, kind), (signal, noise) in total.items():
        result.setdefault(name, {})[kind] = sqnr_from_powers(signal, noise)
    return result


def _listed(sample: Mapping[str, Array]) -> dict[str, Arrays]:
    return {name: [value] for name, value in sample.items()}


def _places(rounded: Mapping[str, Arrays], exact: Mapping[str, Arrays] | None) -> Iterator[Place]:
    """Yield where activations are: by the graphs where the mappings know their models, else by names."""
    if not isinstance(rounded, Activations) or not (exact is None or isinstance(exact, Activations)):
        yield from _named_places(rounded)
        return
    float_model = exact.model if isinstance(exact, Activations) else None
    yield from _placed(_matching(rounded.model, float_model), rounded.model)


def _matching(rounded: onnx.ModelProto, exact: onnx.ModelProto | None) -> Matching | None:
    return None if exact is None else match(without_saved_tensors(exact), without_saved_tensors(rounded))


def _placed(found: Matching | None, model: onnx.ModelProto) -> Iterator[Place]:
    """Yield where the activations of a QDQ model are."""
    pairs: list[tuple[Rounded, Match | None]] = []
    if found is not None:
        pairs += [(each.rounded, each) for each in found.tensors if not each.constant]
    else:
        pairs += [(rounded, None) for rounded in rounded_tensors(GraphView.of(model)) if not rounded.constant]
    for rounded, each in pairs:
        if rounded.before is not None and rounded.after is not None:
            partner = each.name if each is not None else None
            yield Place(
                name=partner or rounded.before.removesuffix(_BEFORE),
                before=rounded.before,
                after=rounded.after,
                exact=partner,
                clip=None if found is None or each is None else found.absorbed(each),
            )


_BEFORE, _AFTER = "_QuantizeLinear_Input", ("_DequantizeLinear_Output", "_DequantizeLinear_Output_1")
"""What onnxruntime.quantization appends to the names of tensors around a pair."""


def _named_places(rounded: Mapping[str, Arrays]) -> Iterator[Place]:
    """Yield where activations are, as onnxruntime.quantization names them."""
    for saved in rounded:
        if saved.endswith(_BEFORE):
            name = saved.removesuffix(_BEFORE)
            yield Place(name=name, before=saved, after=name, exact=name)
        for suffix in _AFTER:
            if saved.endswith(suffix):
                name = saved.removesuffix(suffix)
                yield Place(name=name, before=name, after=saved, exact=name)
