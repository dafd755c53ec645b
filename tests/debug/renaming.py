"""A model under other names: every node and every tensor but the inputs and outputs, which data is given by."""

import random

import onnx


def renamed(model, seed=0):
    """Return a copy in which names say nothing, without any note of where it comes from."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph, drawn, names = copy.graph, random.Random(seed), {}
    kept = {value.name for value in (*graph.input, *graph.output)} | {""}

    def new(name):
        return name if name in kept else names.setdefault(name, f"{drawn.random():.15f}")

    for tensor in graph.initializer:
        tensor.name = new(tensor.name)
    for node in graph.node:
        node.name = f"{drawn.random():.15f}"
        for fields in (node.input, node.output):
            fields[:] = [new(name) for name in fields]
    del graph.value_info[:]
    del copy.metadata_props[:]
    return copy
