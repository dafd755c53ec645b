"""Reading models and the contract for changing them."""

from quantlab.graph.names import Names
from quantlab.graph.passes import Pass, PassResult, Sequential
from quantlab.graph.tensors import FLOATS, float_tensor, integer_tensor, to_array
from quantlab.graph.view import GraphView, Use, captured, default_opset, subgraphs

__all__ = [
    "FLOATS",
    "GraphView",
    "Names",
    "Pass",
    "PassResult",
    "Sequential",
    "Use",
    "captured",
    "default_opset",
    "float_tensor",
    "integer_tensor",
    "subgraphs",
    "to_array",
]
