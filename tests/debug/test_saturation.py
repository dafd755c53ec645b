"""Where a model would saturate: against onnxruntime's integers and naive loops; and the two cures on a real model."""

import json
import re

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import quantlab
from quantlab.backend import OrtBackend
from quantlab.debug.processors import advice
from quantlab.debug.saturation import saturation
from quantlab.debug.windows import Convolution, matrix, windows
from quantlab.demo import digits, float_model
from quantlab.errors import DataError, ModelError, OptionError
from quantlab.graph import GraphView
from quantlab.plan import activation_spec, weight_spec

RANDOM = np.random.default_rng(3)
CONVS = [
    ((1, 4, 7, 6), (3, 4, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((2, 4, 9, 8), (6, 2, 3, 2), {"group": 2, "strides": [2, 1], "pads": [0, 1, 2, 0]}),
    ((1, 3, 10, 9), (2, 3, 2, 3), {"dilations": [2, 2]}),
    ((2, 3, 7, 8), (2, 3, 3, 4), {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    ((2, 3, 7, 8), (2, 3, 2, 2), {"auto_pad": "SAME_LOWER"}),
    ((1, 3, 7), (2, 3, 2), {"auto_pad": "VALID"}),
    ((1, 2, 4, 5, 3), (3, 2, 2, 2, 2), {}),
]


def conv_integer(x, w, attributes):
    """Return a graph of one ConvInteger, and its node."""
    node = helper.make_node("ConvInteger", ["x", "w", "z"], ["y"], name="conv", **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, x.shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.INT32, None)],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(np.uint8(7), "z")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=10)


@pytest.mark.parametrize("order", ["kernel", "channel"])
@pytest.mark.parametrize(("shape", "kernel", "attributes"), CONVS)
def test_windows_times_weights_are_onnxruntimes_integer_convolution(shape, kernel, attributes, order):
    x = RANDOM.integers(0, 256, shape, dtype=np.uint8)
    w = RANDOM.integers(-60, 61, kernel, dtype=np.int8)
    model = conv_integer(x, w, attributes)
    wanted = OrtBackend(threads=1).open(model)({"x": x})["y"]
    view = GraphView.of(model)
    conv = Convolution.of(view.nodes[0], view, w.shape[2:])
    for sample, expected in zip(x, wanted, strict=True):
        parts = zip(np.split(sample, conv.group), np.split(w, conv.group), strict=True)
        groups = []
        for part, weights in parts:
            rows = np.concatenate(list(windows(part, conv, 7, order)))
            groups.append((rows.astype(int) - 7) @ matrix(weights, order).astype(int))
        found = np.concatenate(groups, axis=1).T.reshape(expected.shape)
        np.testing.assert_array_equal(found, expected)


def test_kernel_order_pairs_channels_and_channel_order_pairs_positions():
    x = np.arange(8, dtype=np.uint8).reshape(2, 1, 4)  # channels 0..3 and 4..7
    conv = Convolution(kernel=(1, 2), strides=(1, 1), dilations=(1, 1), pads=(0,) * 4, auto_pad="NOTSET", group=1)
    assert next(windows(x, conv, 0, "kernel"))[0].tolist() == [0, 4, 1, 5]
    assert next(windows(x, conv, 0, "channel"))[0].tolist() == [0, 1, 4, 5]


def gemm(x_zero, w, *, trans_a=0, trans_b=0):
    """Return a QDQ model of one Gemm on given integers."""
    shape = ["N", None] if not trans_a else [None, "N"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "zx"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "one", "zx"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "one", "zw"], ["wd"]),
        helper.make_node("Gemm", ["xd", "wd"], ["y"], name="gemm", transA=trans_a, transB=trans_b),
    ]
    constants = {"one": np.float32(1), "zx": np.uint8(x_zero), "zw": np.int8(0), "w": w}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=10)


@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (1, 0), (0, 1)])
def test_shares_and_errors_are_those_of_a_naive_loop(trans_a, trans_b):
    random = np.random.default_rng(5)
    integers = random.integers(100, 256, (6, 5))
    w = random.integers(-127, 128, (5, 4), dtype=np.int8)
    w[:, 0], w[:, 3] = 90, 1  # saturates for most rows, and for none
    fed = (integers - 9).astype(np.float32)
    batches = [{"x": part.T if trans_a else part} for part in (fed[:2], fed[2:])]
    found = saturation(gemm(9, w.T.copy() if trans_b else w, trans_a=trans_a, trans_b=trans_b), batches).nodes[0]
    for j in range(4):
        errors, sums, cut = [], [], 0
        for row in integers:
            pairs = [sum(int(row[t]) * int(w[t, j]) for t in range(k, min(k + 2, 5))) for k in (0, 2, 4)]
            clipped = [max(-32768, min(32767, pair)) for pair in pairs]
            cut += sum(a != b for a, b in zip(pairs, clipped, strict=True))
            errors.append(abs(sum(clipped) - sum(pairs)))
            sums.append(abs(sum((int(row[t]) - 9) * int(w[t, j]) for t in range(5))))
        assert found.pairs[j] == cut / 18
        assert found.outputs[j] == sum(error > 0 for error in errors) / 6
        assert (found.largest[j], found.mean[j]) == (max(errors), pytest.approx(sum(errors) / 6))
        assert found.relative[j] == pytest.approx(sum(errors) / sum(sums))
    assert 0 < found.saturating < 4


IMAGES = digits().test_images
SAMPLES = [{"image": IMAGES[:4]}, {"image": IMAGES[4:8]}]


def quantized(**options):
    recipe = quantlab.Recipe(**({"activation": activation_spec("uint8"), "per_channel": True} | options))
    model = onnx.load_from_string(float_model())
    return quantlab.quantize(model, [{"image": digits().train_images[:100]}], recipe).model


def test_the_demo_model_saturates_and_both_cures_help():
    plain = saturation(quantized(), SAMPLES)
    assert plain.saturates
    assert plain.samples == 2
    stem = next(node for node in plain.nodes if node.name == "/stem/Conv")
    assert stem.saturating > 0
    assert stem.largest.max() <= 2 * 255 * 127 * 5  # nine products are five pairs
    assert plain.safe == {"/depth/Conv": "depthwise: onnxruntime adds these products one by one, in 32 bits"}

    narrow = saturation(quantized(weight=weight_spec("int8", reduce_range=True)), SAMPLES)
    assert [node.name for node in narrow.nodes] == [node.name for node in plain.nodes]
    assert not narrow.saturates
    assert all(node.largest.max() == node.mean.max() == 0 for node in narrow.nodes)

    unsigned = saturation(quantized(weight=weight_spec("uint8")), SAMPLES)
    assert unsigned.nodes == ()
    assert unsigned.safe["/stem/Conv"] == "uint8 by uint8: not summed in pairs of 16 bits"


def test_operators_on_integers_are_read_as_well_and_batches_do_not_matter():
    qdq = saturation(quantized(per_channel=False), SAMPLES)
    integers = saturation(quantized(per_channel=False, format="QOperator"), [{"image": IMAGES[:8]}])
    assert [node.op_type for node in integers.nodes] == [node.op_type for node in qdq.nodes]
    first, other = qdq.nodes[0], integers.nodes[0]
    np.testing.assert_array_equal(first.pairs, other.pairs)
    np.testing.assert_allclose(first.relative, other.relative)


def test_a_report_is_plain_json_and_a_table():
    report = saturation(quantized(), SAMPLES)
    plain = json.loads(json.dumps(report.to_json()))
    assert plain["saturates"] is True
    assert len(plain["nodes"][0]["pairs"]) == 32
    assert report.table().rows[0][:3] == ("/stem/Conv", "Conv", 32)


def test_refusals():
    with pytest.raises(ModelError, match=re.escape("no Conv, Gemm or MatMul of the model works on integers")):
        saturation(onnx.load_from_string(float_model()), SAMPLES)
    with pytest.raises(DataError, match="no data: give at least one sample"):
        saturation(quantized(), [])
    with pytest.raises(OptionError, match=re.escape("order='c' is not known (allowed: kernel, channel)")):
        saturation(quantized(), SAMPLES, order="c")


def cpu(flags, architecture="x86_64"):
    from quantlab.backend.hardware import Processor

    known = None if flags is None else frozenset(flags.split())
    return Processor(name="a processor", architecture=architecture, cores=2, flags=known)


@pytest.mark.parametrize(
    ("processor", "saturates", "words"),
    [
        (cpu("avx2 avx512_vnni"), None, "This processor has avx512_vnni: it sums products in 32 bits and nothing sat"),
        (cpu("avx2 avx_vnni"), True, "On a processor without VNNI this model would saturate as shown"),
        (cpu("avx2 avx512bw"), None, "Quantize with --reduce-range (preset cpu-x86-avx2), which gives weights 7 bits"),
        (cpu("avx2"), True, "or, where that costs too much accuracy, with --weight-type uint8"),
        (cpu("avx2"), False, "On these samples nothing saturates: 8-bit weights do as well."),
        (cpu(None), None, "The system does not tell which instructions this processor has"),
        (cpu("asimddp", "aarch64"), None, "aarch64: sums of int8 products are exact. Preset cpu-arm suits it."),
        (cpu(None, "riscv64"), None, "The system does not tell"),
    ],
)
def test_advice_goes_by_the_flags(processor, saturates, words):
    assert words in " ".join(advice(processor, saturates))


def test_linux_describes_the_processor(tmp_path):
    from quantlab.backend.hardware import processor

    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nflags\t\t: fpu avx2 avx_vnni\n\nprocessor\t: 1\n")
    found = processor(file)
    assert (found.name, found.integer_flags) == ("Some CPU @ 3 GHz", ("avx2", "avx_vnni"))
    assert processor(tmp_path / "none").flags is None
