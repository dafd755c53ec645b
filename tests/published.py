"""Published architectures, whose files come with the onnx package: real graphs, with weights drawn at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from tests.graph.builders import normal

NETWORKS = Path(onnx.__file__).parent / "backend/test/data/light"


def published(name: str, samples: int = 2) -> tuple[onnx.ModelProto, list[dict[str, Any]]]:
    """Read an architecture, whose file has a shape for each weight, and draw weights of these shapes.

    Args:
        name: Such as `"squeezenet"`.
        samples: How many.

    Returns:
        The model, and samples of normal numbers.
    """
    model = onnx.load(NETWORKS / f"light_{name}.onnx")
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    empty = [node for node in model.graph.node if node.op_type == "ConstantOfShape"]
    roles = {name: (node.op_type, at) for node in model.graph.node for at, name in enumerate(node.input)}
    for seed, node in enumerate(empty):
        shape = tuple(shapes[node.input[0]])
        drawn = normal(seed, *shape) * (np.sqrt(2 / max(1, np.prod(shape[1:]))) if len(shape) > 1 else 1)
        if roles[node.output[0]][0] == "BatchNormalization":  # scales and variances are positive
            drawn = 1 + np.abs(drawn) / 4
        model.graph.node.remove(node)
        model.graph.initializer.append(numpy_helper.from_array(drawn.astype(np.float32), node.output[0]))
    inside = {tensor.name for tensor in model.graph.initializer}
    (image,) = [value for value in model.graph.input if value.name not in inside]
    shape = [axis.dim_value for axis in image.type.tensor_type.shape.dim]
    return model, [{image.name: normal(seed, *shape)} for seed in range(samples)]
