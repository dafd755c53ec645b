"""Trains the embedded CNN on the training half of the digits and writes it as ONNX: `python -m quantlab.demo.train`.

The committed file was made with torch 2.13.0 (CPU, one thread), seed 0 and the defaults of `Settings`. The same torch
on the same kind of processor gives the same bytes; elsewhere the last bits of the weights may differ.

With k the kernel size and c the number of output channels, the network is

    stem   Conv k3 c32 -> BN -> Relu          body   Conv k3 c64 -> BN -> Relu = r
    depth  depthwise Conv k3 -> BN -> Relu    point  Conv k1 c64 -> Add r -> MaxPool 2 -> 4x4
    head   Conv k3 c48 -> BN -> Relu -> GlobalAveragePool -> Flatten -> Gemm -> logits

The graph is written node by node with batch normalization left in place, as exporters of training frameworks may leave
it, so that folding it stays the quantizer's work. Batch normalization: Ioffe and Szegedy 2015; residual sum: He et al.
2016; depthwise and pointwise convolution: Howard et al. 2017 (MobileNets); step size: one cycle, Smith and Topin 2018.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantlab.demo import MODEL_FILE, Digits, digits
from quantlab.errors import QuantlabError

TORCH_VERSION = "2.13.0"
BN_EPSILON = 1e-5


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides the trained weights, besides the data and torch itself.

    Attributes:
        seed: Seed of the initial weights, of the order of images and of their augmentation.
        epochs: Passes over the training half.
        batch_size: Images a step; the incomplete last batch of an epoch is left out.
        peak_learning_rate: Highest step size of the one-cycle schedule of AdamW.
        weight_decay: Decoupled weight decay of AdamW.
        label_smoothing: Share of the target probability spread evenly over the ten digits.
        max_shift: Largest augmentation shift along each axis, in pixels.
        max_rotation: Largest augmentation rotation, in degrees.
        max_scaling: Largest relative augmentation change of size.
    """

    seed: int = 0
    epochs: int = 60
    batch_size: int = 64
    peak_learning_rate: float = 5e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    max_shift: float = 1.0
    max_rotation: float = 12.0
    max_scaling: float = 0.1


def import_torch() -> ModuleType:
    """Import torch, which only training needs.

    Returns:
        The module `torch`.

    Raises:
        QuantlabError: torch is not installed.
    """
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise QuantlabError(
            f"training the demo model needs torch, which cannot be imported ({error}); "
            f"install it with: pip install torch=={TORCH_VERSION}"
        ) from error


def train(
    images: NDArray[np.float32], labels: NDArray[np.int64], settings: Settings
) -> tuple[Any, dict[str, NDArray[np.float32]]]:
    """Train the network with one thread and deterministic kernels, which are set for the whole process.

    Args:
        images: Pixel values in 0..1, `(N, 1, 8, 8)`, with N at least `settings.batch_size`.
        labels: Digits 0..9, `(N,)`.
        settings: Seed and hyper-parameters.

    Returns:
        The trained torch network in evaluation mode, and its weights by name as `onnx_model` takes them.

    Raises:
        QuantlabError: torch is not installed.
    """
    torch = import_torch()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(settings.seed)
    network = _network(torch)
    x, y = torch.tensor(images), torch.tensor(labels)
    steps = len(x) // settings.batch_size
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.peak_learning_rate, total_steps=steps * settings.epochs
    )
    for _ in range(settings.epochs):
        order = torch.randperm(len(x))[: steps * settings.batch_size].reshape(steps, settings.batch_size)
        for batch in order:
            logits = forward(torch, network, _augment(torch, x[batch], settings))
            loss = torch.nn.functional.cross_entropy(logits, y[batch], label_smoothing=settings.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    state = network.state_dict()
    return network, {name: value.numpy() for name, value in state.items() if not name.endswith("num_batches_tracked")}


def forward(torch: ModuleType, network: Any, x: Any) -> Any:
    """Compute the logits with torch; `onnx_model` writes the same computation.

    Args:
        torch: The module `torch`.
        network: A network made by `train`.
        x: A torch tensor `(N, 1, 8, 8)`, values 0..1.

    Returns:
        A torch tensor `(N, 10)`.
    """
    relu = torch.nn.functional.relu
    stem = relu(network["stem_bn"](network["stem_conv"](x)))
    body = relu(network["body_bn"](network["body_conv"](stem)))
    depth = relu(network["depth_bn"](network["depth_conv"](body)))
    pooled = torch.nn.functional.max_pool2d(network["point_conv"](depth) + body, 2)
    head = relu(network["head_bn"](network["head_conv"](pooled)))
    return network["classifier"](head.mean(dim=(2, 3)))


def _network(torch: ModuleType) -> Any:
    nn = torch.nn
    return nn.ModuleDict(
        {
            "stem_conv": nn.Conv2d(1, 32, 3, padding=1, bias=False),
            "stem_bn": nn.BatchNorm2d(32, eps=BN_EPSILON),
            "body_conv": nn.Conv2d(32, 64, 3, padding=1, bias=False),
            "body_bn": nn.BatchNorm2d(64, eps=BN_EPSILON),
            "depth_conv": nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False),
            "depth_bn": nn.BatchNorm2d(64, eps=BN_EPSILON),
            "point_conv": nn.Conv2d(64, 64, 1),
            "head_conv": nn.Conv2d(64, 48, 3, padding=1, bias=False),
            "head_bn": nn.BatchNorm2d(48, eps=BN_EPSILON),
            "classifier": nn.Linear(48, 10),
        }
    )


def _augment(torch: ModuleType, x: Any, settings: Settings) -> Any:
    """Rotate, scale and shift every image `(B, 1, 8, 8)` by its own small random amounts, with zeros outside."""

    def uniform(limit: float) -> Any:
        return (torch.rand(len(x)) * 2 - 1) * limit

    angle, scale = torch.deg2rad(uniform(settings.max_rotation)), 1 + uniform(settings.max_scaling)
    # affine_grid measures in half widths of the image: one pixel of eight is 2/8.
    shift_x, shift_y = uniform(settings.max_shift * 2 / 8), uniform(settings.max_shift * 2 / 8)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack([cos, -sin, shift_x, sin, cos, shift_y], dim=1).reshape(-1, 2, 3)
    grid = torch.nn.functional.affine_grid(theta, list(x.shape), align_corners=False)
    return torch.nn.functional.grid_sample(x, grid, align_corners=False)


def onnx_model(weights: Mapping[str, NDArray[np.float32]], metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Write the network as an ONNX model, opset 13 and IR version 8, without torch.

    Args:
        weights: Arrays by name, e.g. `stem_conv.weight` of shape `(32, 1, 3, 3)`, in the order to store them.
        metadata: Entries for the model's metadata properties.

    Returns:
        A checked model from `image`, float32 `(N, 1, 8, 8)`, to `logits`, float32 `(N, 10)`, with N dynamic.
    """
    nodes = [
        *_conv_bn_relu("stem", "image"),
        *_conv_bn_relu("body", "stem_relu_out"),
        *_conv_bn_relu("depth", "body_relu_out", groups=64),
        helper.make_node(
            "Conv",
            ["depth_relu_out", "point_conv.weight", "point_conv.bias"],
            ["point_conv_out"],
            name="/point/Conv",
            kernel_shape=[1, 1],
        ),
        helper.make_node("Add", ["point_conv_out", "body_relu_out"], ["residual_out"], name="/residual/Add"),
        helper.make_node(
            "MaxPool", ["residual_out"], ["pool_out"], name="/pool/MaxPool", kernel_shape=[2, 2], strides=[2, 2]
        ),
        *_conv_bn_relu("head", "pool_out"),
        helper.make_node("GlobalAveragePool", ["head_relu_out"], ["average_out"], name="/average/GlobalAveragePool"),
        helper.make_node("Flatten", ["average_out"], ["flatten_out"], name="/flatten/Flatten", axis=1),
        helper.make_node(
            "Gemm",
            ["flatten_out", "classifier.weight", "classifier.bias"],
            ["logits"],
            name="/classifier/Gemm",
            transB=1,
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "digits_cnn",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(np.asarray(value, dtype=np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="quantlab.demo.train"
    )
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model


def _conv_bn_relu(block: str, source: str, *, groups: int = 1) -> list[onnx.NodeProto]:
    """Three nodes from tensor `source` to `<block>_relu_out`: 3x3 Conv padded by one, BatchNormalization, Relu."""
    statistics = [f"{block}_bn.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    return [
        helper.make_node(
            "Conv",
            [source, f"{block}_conv.weight"],
            [f"{block}_conv_out"],
            name=f"/{block}/Conv",
            kernel_shape=[3, 3],
            pads=[1, 1, 1, 1],
            group=groups,
        ),
        helper.make_node(
            "BatchNormalization",
            [f"{block}_conv_out", *statistics],
            [f"{block}_bn_out"],
            name=f"/{block}/BatchNormalization",
            epsilon=BN_EPSILON,
        ),
        helper.make_node("Relu", [f"{block}_bn_out"], [f"{block}_relu_out"], name=f"/{block}/Relu"),
    ]


def _logits(model: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"image": images})[0], dtype=np.float32)


def _metadata(settings: Settings, torch_version: str) -> dict[str, str]:
    return {
        "training_data": "UCI Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, 1998, "
        "DOI 10.24432/C50P49, CC BY 4.0; first 898 rows of the test set, pixels divided by 16",
        "torch": torch_version,
        "settings": repr(settings),
    }


def _report(data: Digits, expected: NDArray[np.float32], model: onnx.ModelProto) -> list[str]:
    """Lines for a person: size, the largest gap between onnxruntime and torch (in logits), accuracy on both halves.

    Raises:
        QuantlabError: The gap is larger than float32 rounding explains.
    """
    serialized = model.SerializeToString()
    logits = _logits(serialized, data.images)
    gap = np.abs(logits - expected).max()
    # Two orders of summation over at most 576 products a layer: a hundred units in the last place is generous.
    allowed = 100 * np.finfo(np.float32).eps * np.abs(expected).max()
    if not gap <= allowed:
        raise QuantlabError(
            f"output 'logits' of the ONNX graph differs from torch by {gap:.2e}, more than the {allowed:.2e} that "
            "float32 rounding explains: make onnx_model() and forward() describe the same network; nothing was written"
        )
    right = logits.argmax(axis=1) == data.labels
    n = len(data.train_labels)
    return [
        f"parameters        {sum(int(np.prod(t.dims)) for t in model.graph.initializer):,}",
        f"file size         {len(serialized):,} bytes",
        f"onnxruntime/torch {gap:.2e} max abs difference of logits",
        f"top-1, trained on {right[:n].mean():.4f} ({right[:n].sum()} of {n})",
        f"top-1, held out   {right[n:].mean():.4f} ({right[n:].sum()} of {len(right) - n})",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, write the model file and print its size and accuracy.

    Args:
        arguments: Command-line arguments; those of the process by default.

    Raises:
        QuantlabError: torch is not installed, or onnxruntime disagrees with it about the written model.
    """
    parser = argparse.ArgumentParser(prog="python -m quantlab.demo.train", description="Train the embedded digits CNN.")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_name(MODEL_FILE))
    output: Path = parser.parse_args(arguments).output
    torch, settings, data = import_torch(), Settings(), digits()
    network, weights = train(data.train_images, data.train_labels, settings)
    model = onnx_model(weights, _metadata(settings, str(torch.__version__)))
    with torch.no_grad():
        expected = forward(torch, network, torch.tensor(data.images)).numpy()
    lines = _report(data, expected, model)
    output.write_bytes(model.SerializeToString())
    print("\n".join([f"written           {output}", *lines]))


if __name__ == "__main__":
    try:
        main()
    except QuantlabError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
