"""A model with look-ups and small edits as methods: the peer's `ONNXModel`.

Here it edits the model that it is given, as the peer's does; everywhere else in quantlab models are values. What
subgraphs read counts as read, which it does not in onnxruntime.quantization 1.31.1.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from quantlab.errors import DataError, ModelError, OptionError
from quantlab.graph import GraphView, captured, subgraphs
from quantlab.graph.files import MAX_PROTOBUF_BYTES, save
from quantlab.graph.prepare.edit import delete_where, replace_nodes
from quantlab.ort.gemms import split_gemms
from quantlab.ort.names import find_by_name

Node = onnx.NodeProto
Tensor = onnx.TensorProto
_FLOATS = (Tensor.FLOAT16, Tensor.FLOAT, Tensor.DOUBLE, Tensor.BFLOAT16)


def _renamed(names: Any, old: str, new: str) -> None:
    for index, name in enumerate(names):
        if name == old:
            names[index] = new


def _largest_suffix(names: Iterable[str], prefix: str) -> int:
    endings = [name[len(prefix) :] for name in names if name.startswith(prefix)]
    return max((int(ending) for ending in endings if ending.isdecimal()), default=-1)


class ONNXModel:
    """A model to ask and to edit.

    Args:
        model: The model; it is changed in place.

    Example:
        >>> from onnx import parser
        >>> graph = "g (float[2] x) => (float[2] y) { t = Abs(x) y = Neg(t) }"
        >>> model = ONNXModel(helper.make_model(parser.parse_graph(graph)))
        >>> [node.op_type for node in model.get_children(model.nodes()[0])]
        ['Neg']
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model

    # Parts

    def graph(self) -> onnx.GraphProto:
        """Return the main graph."""
        return self.model.graph

    def nodes(self) -> Any:
        """Return the nodes of the main graph."""
        return self.model.graph.node

    def initializer(self) -> Any:
        """Return the initializers of the main graph."""
        return self.model.graph.initializer

    def ir_version(self) -> int:
        """Return the version of the file format."""
        return self.model.ir_version

    def opset_import(self) -> Any:
        """Return the imported operator sets."""
        return self.model.opset_import

    def set_opset_import(self, domain: str, version: int) -> None:
        """Import an operator set in a version, in place of the one that is imported."""
        for entry in self.model.opset_import:
            if entry.domain == domain:
                entry.version = version
                return
        self.model.opset_import.add(domain=domain, version=version)

    # Nodes

    def add_node(self, node: Node) -> None:
        """Add a node at the end.

        Raises:
            ModelError: It is a DequantizeLinear of floats.
        """
        self._check_node(node)
        self.model.graph.node.append(node)

    def add_nodes(self, nodes_to_add: Iterable[Node]) -> None:
        """Add nodes at the end; see `add_node`."""
        for node in nodes_to_add:
            self.add_node(node)

    def remove_node(self, node: Node) -> None:
        """Remove a node, or one that is equal to it, if there is one."""
        self.remove_nodes([node])

    def remove_nodes(self, nodes_to_remove: Iterable[Node]) -> None:
        """Remove nodes; see `remove_node`."""
        doomed = {node.SerializeToString(deterministic=True) for node in nodes_to_remove}
        delete_where(self.model.graph.node, lambda node: node.SerializeToString(deterministic=True) in doomed)

    def find_node_by_name(
        self, node_name: str, new_nodes_list: Iterable[Node], graph: onnx.GraphProto
    ) -> onnx.NodeProto | None:
        """Return the node of a name in a graph or, failing that, among other nodes; None where there is none."""
        return find_by_name(node_name, [*graph.node, *new_nodes_list])

    def find_nodes_by_initializer(self, graph: onnx.GraphProto, initializer: Tensor) -> list[Node]:
        """Return the nodes of a graph that read an initializer, once for each time they do."""
        return [node for node in graph.node for name in node.input if name == initializer.name]

    def get_largest_node_name_suffix(self, node_name_prefix: str) -> int:
        """Return the largest whole number that follows a prefix in the name of a node, or -1."""
        return _largest_suffix((node.name for node in self.model.graph.node), node_name_prefix)

    # Initializers

    def add_initializer(self, tensor: Tensor) -> None:
        """Add an initializer unless there is one of its name.

        Raises:
            DataError: It is float8 and has NaN.
        """
        if self.get_initializer(tensor.name) is None:
            self._check_init(tensor)
            self.model.graph.initializer.append(tensor)

    def initializer_extend(self, inits: Sequence[Tensor]) -> None:
        """Add initializers, whatever their names.

        Raises:
            OptionError: There are none; it is a ValueError too.
            DataError: One is float8 and has NaN.
        """
        if not inits:
            raise OptionError("there is no initializer to add: give at least one")
        for tensor in inits:
            self._check_init(tensor)
        self.model.graph.initializer.extend(inits)

    def get_initializer(self, name: str) -> onnx.TensorProto | None:
        """Return the initializer of a name, or None."""
        return find_by_name(name, self.model.graph.initializer)

    def get_initializer_name_set(self) -> set[str]:
        """Return the names of all initializers."""
        return {tensor.name for tensor in self.model.graph.initializer}

    def remove_initializer(self, tensor: Tensor) -> None:
        """Remove an initializer, and the graph input that it is the default of."""
        self.remove_initializers([tensor])

    def remove_initializers(self, init_to_remove: Iterable[Tensor]) -> None:
        """Remove initializers; see `remove_initializer`."""
        doomed = {tensor.name for tensor in init_to_remove} & self.get_initializer_name_set()
        delete_where(self.model.graph.initializer, lambda tensor: tensor.name in doomed)
        delete_where(self.model.graph.input, lambda value: value.name in doomed)

    def get_largest_initializer_name_suffix(self, initializer_name_prefix: str) -> int:
        """Return the largest whole number that follows a prefix in the name of an initializer, or -1."""
        return _largest_suffix(self.get_initializer_name_set(), initializer_name_prefix)

    def get_constant_value(self, output_name: str) -> Any:
        """Return the array of a Constant node or an initializer, or None."""
        for node in self.model.graph.node:
            if node.op_type == "Constant" and output_name in node.output:
                for entry in node.attribute:
                    if entry.name == "value":
                        return numpy_helper.to_array(entry.t)
        tensor = self.get_initializer(output_name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    # Inputs, outputs and types

    def find_graph_input(self, input_name: str) -> onnx.ValueInfoProto | None:
        """Return the graph input of a name, or None."""
        return find_by_name(input_name, self.model.graph.input)

    def find_graph_output(self, output_name: str) -> onnx.ValueInfoProto | None:
        """Return the graph output of a name, or None."""
        return find_by_name(output_name, self.model.graph.output)

    def is_graph_input(self, tensor_name: str) -> bool:
        """Return whether a tensor is an input of the graph."""
        return self.find_graph_input(tensor_name) is not None

    def is_graph_output(self, output_name: str) -> bool:
        """Return whether a tensor is an output of the graph."""
        return self.find_graph_output(output_name) is not None

    def get_non_initializer_inputs(self) -> set[str]:
        """Return the graph inputs that are no initializers."""
        return {value.name for value in self.model.graph.input} - self.get_initializer_name_set()

    def get_tensor_type(self, tensor_name: str) -> onnx.TypeProto.Tensor | None:
        """Return type and shape of a tensor, or None where the model does not state them."""
        graph = self.model.graph
        found = find_by_name(tensor_name, [*graph.value_info, *graph.input, *graph.output])
        return None if found is None else found.type.tensor_type

    # Who makes and who reads

    def input_name_to_nodes(self) -> dict[str, list[Node]]:
        """Return, by tensor, the nodes of the main graph that read it, once for each time they do."""
        readers: dict[str, list[Node]] = {}
        for node in self.model.graph.node:
            for name in filter(None, node.input):
                readers.setdefault(name, []).append(node)
        return readers

    def output_name_to_node(self) -> dict[str, Node]:
        """Return, by tensor, the node that makes it."""
        return {name: node for node in self.model.graph.node for name in node.output if name}

    def get_children(self, node: Node, input_name_to_nodes: Mapping[str, list[Node]] | None = None) -> list[Node]:
        """Return the nodes that read what a node makes.

        Args:
            node: The node.
            input_name_to_nodes: What the method of that name returned, where it is at hand.
        """
        readers = self.input_name_to_nodes() if input_name_to_nodes is None else input_name_to_nodes
        return [child for name in node.output for child in readers.get(name, ())]

    def get_parents(self, node: Node, output_name_to_node: Mapping[str, Node] | None = None) -> list[Node]:
        """Return the nodes that make what a node reads.

        Args:
            node: The node.
            output_name_to_node: What the method of that name returned, where it is at hand.
        """
        makers = self.output_name_to_node() if output_name_to_node is None else output_name_to_node
        return [makers[name] for name in node.input if name in makers]

    def get_parent(
        self, node: Node, idx: int, output_name_to_node: Mapping[str, Node] | None = None
    ) -> onnx.NodeProto | None:
        """Return the node that makes one input of a node, or None.

        Args:
            node: The node.
            idx: Number of the input.
            output_name_to_node: What the method of that name returned, where it is at hand.
        """
        makers = self.output_name_to_node() if output_name_to_node is None else output_name_to_node
        return makers.get(node.input[idx]) if idx < len(node.input) else None

    # Renaming, in the main graph

    @staticmethod
    def replace_node_input(node: Node, old_input_name: str, new_input_name: str) -> None:
        """Let a node read another tensor wherever it reads the old one."""
        _renamed(node.input, old_input_name, new_input_name)

    @staticmethod
    def replace_node_output(node: Node, old_output_name: str, new_output_name: str) -> None:
        """Let a node make a tensor under another name."""
        _renamed(node.output, old_output_name, new_output_name)

    def replace_input_of_all_nodes(self, old_input_name: str, new_input_name: str) -> None:
        """Let every node read another tensor wherever it reads the old one."""
        for node in self.model.graph.node:
            _renamed(node.input, old_input_name, new_input_name)

    def replace_input_of_nodes(self, old_input_name: str, new_input_name: str, node_names_set: set[str]) -> None:
        """Let the nodes of some names read another tensor wherever they read the old one."""
        for node in self.model.graph.node:
            if node.name in node_names_set:
                _renamed(node.input, old_input_name, new_input_name)

    def replace_output_of_all_nodes(self, old_output_name: str, new_output_name: str) -> None:
        """Let whichever node makes a tensor make it under another name."""
        for node in self.model.graph.node:
            _renamed(node.output, old_output_name, new_output_name)

    def replace_output_of_nodes(self, old_output_name: str, new_output_name: str, node_names_set: set[str]) -> None:
        """Let the nodes of some names make a tensor under another name."""
        for node in self.model.graph.node:
            if node.name in node_names_set:
                _renamed(node.output, old_output_name, new_output_name)

    # The whole

    def replace_gemm_with_matmul(self) -> None:
        """Take every Gemm apart into MatMul and Add where it is a plain product; see `quantlab.ort.gemms`."""
        split_gemms(self.model)

    def _read(self) -> set[str]:
        """Return every tensor that is an output, or read by a node or a subgraph of one."""
        nodes, read = self.model.graph.node, {value.name for value in self.model.graph.output}
        read |= {name for node in nodes for name in node.input}
        return read | {name for node in nodes for inner in subgraphs(node) for name in captured(inner)}

    def remove_unused_constant(self) -> None:
        """Remove Constant nodes and initializers that nobody reads, and the inputs that these are the defaults of."""
        read = self._read()
        delete_where(self.model.graph.node, lambda node: node.op_type == "Constant" and node.output[0] not in read)
        self.remove_initializers([tensor for tensor in self.initializer() if tensor.name not in read])

    def clean_initializers(self) -> tuple[onnx.GraphProto, set[str]]:
        """Remove initializers that nobody reads, and the inputs that these are the defaults of.

        Returns:
            The graph, and the tensors that are read and that nothing gives.
        """
        graph, read = self.model.graph, self._read()
        self.remove_initializers([tensor for tensor in graph.initializer if tensor.name not in read])
        given = {value.name for value in graph.input} | self.get_initializer_name_set()
        return graph, read - given - set(self.output_name_to_node()) - {""}

    def topological_sort(self) -> None:
        """Put each node behind what it reads, in subgraphs of its own too; one that is there already keeps its place.

        Raises:
            ModelError: The graph has a cycle, or a node reads what nothing gives.
        """
        replace_nodes(self.model.graph, GraphView.of(self.model).nodes)

    def save_model_to_file(self, output_path: str | os.PathLike[str], use_external_data_format: bool = False) -> None:
        """Sort the nodes and write the model.

        Args:
            output_path: The file.
            use_external_data_format: Write the weights into a file `NAME.data` beside it, whatever their size.

        Raises:
            ModelError: The graph has a cycle, or the file cannot be written.
            DataError: A float8 initializer has NaN.
        """
        self.topological_sort()
        for tensor in self.model.graph.initializer:
            self._check_init(tensor)
        save(self.model, output_path, external_above=0 if use_external_data_format else MAX_PROTOBUF_BYTES)

    def _check_init(self, tensor: Tensor) -> None:
        codes = np.frombuffer(tensor.raw_data, np.uint8)
        # The exponent and mantissa of NaN are all ones; the sign may be either.
        if tensor.data_type == Tensor.FLOAT8E4M3FN and ((codes & 127) == 127).any():
            raise DataError(f"initializer {tensor.name!r} of float8 has NaN")

    def _check_node(self, node: Node) -> None:
        if node.op_type != "DequantizeLinear" or len(node.input) < 3:
            return
        zero = self.get_initializer(node.input[2])
        if zero is not None and zero.data_type in _FLOATS:
            kind = helper.tensor_dtype_to_string(zero.data_type).removeprefix("TensorProto.")
            raise ModelError(
                f"DequantizeLinear {node.name!r} would read {kind}: its zero point {zero.name!r} is a float"
            )
