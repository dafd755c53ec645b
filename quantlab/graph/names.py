"""Names that are free: new tensors, initializers and nodes never collide with what a model already has."""

from __future__ import annotations

from collections.abc import Iterable

import onnx


class Names:
    """The names taken in a model, subgraphs included, and new ones made beside them.

    Args:
        taken: Names that may not be given out.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = {name for name in taken if name}
        self._counts: dict[str, int] = {}

    @classmethod
    def of(cls, model: onnx.ModelProto) -> Names:
        """Collect every tensor and node name of a model."""
        return cls(_all_names(model.graph))

    def fresh(self, wanted: str) -> str:
        """Take a name: `wanted` itself if it is free, else `wanted_1`, `wanted_2` and so on.

        Args:
            wanted: The name one would like.

        Returns:
            A name nobody else has.

        Example:
            >>> names = Names(["x", "x_scale"])
            >>> names.fresh("x_scale"), names.fresh("y_scale")
            ('x_scale_1', 'y_scale')
        """
        if wanted and wanted not in self._taken:
            self._taken.add(wanted)
            return wanted
        name, count = wanted, self._counts.get(wanted, 0)
        while not name or name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._counts[wanted] = count
        self._taken.add(name)
        return name


def _all_names(graph: onnx.GraphProto) -> Iterable[str]:
    for values in (graph.input, graph.output, graph.value_info, graph.initializer):
        yield from [value.name for value in values]
    yield from (sparse.values.name for sparse in graph.sparse_initializer)
    for node in graph.node:
        yield node.name
        yield from node.input
        yield from node.output
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.ByteSize():
                    yield from _all_names(inner)
