"""The example on the demonstration model: what it orders, and that every option is visible in the graph it made."""

import csv
import io
import re

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import quantlab
from quantlab.demo import digits

DATA = digits()
SEEDS = {  # per_channel, reduce_range, CalibTensorRangeSymmetric, CalibMovingAverage, nodes in float
    "model 1": (True, False, True, True, ()),
    "model 2": (False, False, True, True, ()),
    "model 3": (True, False, False, True, ()),
    "model 4": (True, False, False, False, ()),
    "model 5": (True, False, False, True, ("/classifier/Gemm",)),
    "model 6": (True, False, False, True, ("/stem/Relu", "/body/Relu", "/depth/Relu", "/head/Relu", "/residual/Add")),
    "model 7": (True, False, False, True, ("/head/Conv", "/classifier/Gemm")),
    "model 8": (True, True, False, True, ("/head/Conv", "/classifier/Gemm")),
    "model 9": (True, True, False, True, ("/head/Conv", "/classifier/Gemm")),
    "model 10": (True, True, False, True, ("/head/Conv", "/classifier/Gemm")),
    "model 11": (True, True, False, True, ("/stem/Conv", "/head/Conv", "/classifier/Gemm")),
}


def sqnr(result, trial):
    return result.row(trial).sqnr_db["logits"]


def test_rows_are_the_trials_in_their_order(example):
    assert [row.trial for row in example.result.rows] == [
        "original",
        *(trial.name for trial in example.ablation.trials),
    ]
    assert [name for name in SEEDS if name in {row.trial for row in example.result.rows}] == list(SEEDS)


# What orders hold


@pytest.mark.parametrize("fused", ["partial", "all"])
def test_real_calibration_data_beats_dummy_input(example, fused):
    real, dummy = (f"{what} ({fused} fuse)" for what in ("real data", "dummy input"))
    assert sqnr(example.result, real) > sqnr(example.result, dummy) + 3
    assert example.result.row(real).metrics["top1"] > example.result.row(dummy).metrics["top1"]


def test_fusing_everything_before_quantization_beats_fusing_some(example):
    assert sqnr(example.result, "real data (all fuse)") > sqnr(example.result, "real data (partial fuse)")


def test_fusing_alone_keeps_the_outputs_and_saves_nodes(example):
    rows = [example.result.row(f"original{name}") for name in ("", " (partial fuse)", " (all fuse)")]
    assert rows[0].nodes > rows[1].nodes > rows[2].nodes
    assert [row.nodes for row in rows] == [18, 17, 14]
    assert min(row.sqnr_db["logits"] for row in rows) > 120  # float32 has some 24 bits, 144 dB
    assert len({row.metrics["accuracy"] for row in rows}) == 1


@pytest.mark.parametrize(("with_it", "without"), [("model 4, symmetric ranges", "model 4"), ("model 1", "model 3")])
def test_symmetric_ranges_cost_accuracy(example, with_it, without):
    assert sqnr(example.result, with_it) < sqnr(example.result, without) - 1


def test_symmetric_ranges_double_the_scale_behind_a_relu_and_move_its_zero_point(example):
    plain, symmetric = (grid(example.model(name), "stem_relu_out") for name in ("model 4", "model 4, symmetric ranges"))
    assert symmetric[0] == pytest.approx(2 * plain[0], rel=1e-6)
    assert (plain[1], symmetric[1]) == (-128, 0)


def test_models_whose_weights_are_quantized_are_three_times_smaller(example):
    first = example.result.original
    for number in range(1, 7):
        assert first.size_bytes / example.result.row(f"model {number}").size_bytes > 3


def test_equal_trials_have_equal_rows_but_for_their_times(example):
    rows = [example.result.row(f"model {number}") for number in (8, 9, 10)]
    assert len({row.key for row in rows}) == 1
    plain = [row.to_json() | {"trial": "", "seconds": []} for row in rows]
    assert plain[0] == plain[1] == plain[2]
    assert len({row.seconds for row in rows}) == 3


# Options are visible in the graph


def grid(model, tensor):
    """Scale and zero point of a tensor's QuantizeLinear."""
    found = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and tensor in (n.input[0], n.output[0]))
    return found[node.input[1]].item(), found[node.input[2]].item()


def rounded_weight(node, model):
    makers = {name: other for other in model.graph.node for name in other.output}
    return len(node.input) > 1 and node.op_type != "Add" and node.input[1] in makers


@pytest.mark.parametrize("name", SEEDS)
def test_the_options_of_a_trial_are_visible_in_its_graph(example, name):
    per_channel, reduced, symmetric, _, frozen = SEEDS[name]
    model, row = example.model(name), example.result.row(name)
    onnx.checker.check_model(model)
    arrays = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    nodes = {node.name: node for node in model.graph.node}
    for node_name in frozen:
        assert not rounded_weight(nodes[node_name], model)
        assert node_name in row.left_float
    weighted = [node for node in nodes.values() if node.op_type in ("Conv", "Gemm") and node.name not in frozen]
    assert all(rounded_weight(node, model) for node in weighted)
    weights = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and "body_conv" in n.input[0]]
    weight = next(n for n in weights if arrays[n.input[0]].ndim == 4)
    assert (arrays[weight.input[1]].ndim == 1) == per_channel
    assert abs(arrays[weight.input[0]].astype(int)).max() == (64 if reduced else 127)
    if symmetric:
        # The middle of -128..127 is -0.5, which float32 rounds to one side or the other.
        assert {arrays[n.input[2]].item() for n in model.graph.node if n.op_type == "QuantizeLinear"} <= {-1, 0}


def test_the_moving_average_is_the_mean_of_the_ends_of_the_batches(example):
    float_model = quantlab.prepare_for(quantlab.load(example.folder / "digits_float.onnx")).model
    float_model.graph.output.append(onnx.helper.make_tensor_value_info("residual_out", 1, None))
    session = onnxruntime.InferenceSession(float_model.SerializeToString())
    ends = []
    for images in np.array_split(DATA.train_images[:896], 28):
        (values,) = session.run(["residual_out"], {"image": images})
        ends.append((values.min(), values.max()))
    lo, hi = np.mean(ends, axis=0)
    assert grid(example.model("model 3"), "residual_out")[0] == pytest.approx((hi - lo) / 255, rel=1e-5)
    whole = np.max(ends) - np.min(ends)
    assert grid(example.model("model 4"), "residual_out")[0] == pytest.approx(whole / 255, rel=1e-5)


# Numbers of a row


def logits(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    parts = np.array_split(DATA.test_images[:384], 12)
    return np.concatenate([session.run(None, {"image": part})[0] for part in parts]).astype(np.float64)


@pytest.mark.parametrize("name", ["model 1", "model 6", "model 11", "dummy input (all fuse)"])
def test_a_row_agrees_with_a_plain_computation(example, name):
    row, labels = example.result.row(name), DATA.test_labels[:384]
    exact, found = logits(example.folder / "digits_float.onnx"), logits(row.model)
    assert row.metrics["accuracy"] == (found.argmax(1) == labels).mean()
    assert row.metrics["top1"] == (found.argmax(1) == exact.argmax(1)).mean()
    entropies = [np.log(np.exp(one).sum()) - one[label] for one, label in zip(found, labels, strict=True)]
    assert row.loss == pytest.approx(np.mean(entropies), rel=1e-9)
    ratio = 10 * np.log10((exact**2).sum() / ((exact - found) ** 2).sum())
    assert row.sqnr_db["logits"] == pytest.approx(ratio, rel=1e-9)


def test_the_output_sqnr_is_that_of_compare(example):
    row = example.result.row("model 4")
    data = example.ablation.evaluation.open(quantlab.backend.signature(example.model("original")), labels=["label"])
    found = quantlab.compare(example.model("original"), quantlab.load(row.model), data)
    assert row.sqnr_db["logits"] == pytest.approx(found.outputs[0].sqnr_db, abs=0.05)


def test_sizes_are_those_of_the_files_in_millions_of_bytes(example):
    table = example.result.table
    for row, line in zip(example.result.rows, table.to_json(), strict=True):
        assert line["size MB"] == pytest.approx(row.size_bytes / 1e6)
    assert example.result.original.size_bytes == (example.folder / "digits_float.onnx").stat().st_size


def test_every_row_says_where_it_was_measured(example):
    for row in example.saved()["rows"]:
        for place in (row["environment"], row["timed_on"]):
            assert place["threads"] == 1
            assert place["providers"] == ["CPUExecutionProvider"]
            assert place["versions"]["onnxruntime"] == onnxruntime.__version__
            assert place["processor"]["cores"] >= 1
        assert len(row["seconds"]) == 2
        assert min(row["seconds"]) > 0


def test_the_setup_is_recorded(example):
    setup = example.saved()["setup"]
    assert setup["calibration"] | {"data": ""} == {"data": "", "batch": 32, "iterations": 28}
    assert setup["evaluation"] | {"data": ""} == {"data": "", "batch": 32, "iterations": 12, "batches": 12}
    assert (setup["device"], setup["threads"], setup["loss"]) == ("cpu", 1, "cross_entropy")


def test_calibration_is_shared(example):
    # Two kinds of data times two graphs; the rules of all other trials are served by the data and graph of one of them.
    assert example.result.calibration_passes == 4
    assert sum(row.recipe is not None for row in example.result.rows) == 16


def test_ratios_are_relative_to_the_original(example):
    result = example.result
    for row, line in zip(result.rows, result.table.to_json(), strict=True):
        assert line["times smaller"] == result.original.size_bytes / row.size_bytes
        assert line["accuracy ratio"] == row.metrics["accuracy"] / result.original.metrics["accuracy"]
        pairs = zip(result.original.seconds, row.seconds, strict=True)
        assert line["speed-up"] == pytest.approx(np.median([one / other for one, other in pairs]))
        assert line["time s"] == pytest.approx(np.median(row.seconds))
        assert line["spread s"] == pytest.approx(max(row.seconds) - min(row.seconds))


def test_the_three_files_hold_the_same_table(example):
    rows = list(csv.DictReader(io.StringIO((example.out / "results.csv").read_text())))
    plain = example.saved()["table"]
    assert [row["trial"] for row in rows] == [row["trial"] for row in plain]
    assert [float(row["loss"]) for row in rows] == [row["loss"] for row in plain]
    text = (example.out / "results.md").read_text()
    assert len(re.findall(r"^\| (?!---|trial)", text, re.MULTILINE)) == len(plain)
    assert "Measured on " in text
    assert example.result._repr_html_().count("<tr>") == len(plain) + 1
