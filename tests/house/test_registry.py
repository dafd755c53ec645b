"""Adding something is one new file: a range rule and an operator, each in a module that did not exist before."""

import importlib
import sys
import textwrap

import numpy as np
import onnx
import pytest

import quantlab
from quantlab.calibration import calibrators
from quantlab.errors import OptionError
from quantlab.plan import op_rules
from quantlab.registry import Registry

RULE = '''
"""A range rule in one file: half of what was observed."""

from dataclasses import dataclass

from quantlab.arrays import Range
from quantlab.calibration import MinMax, calibrators


@calibrators.register("halved")
@dataclass(frozen=True, kw_only=True)
class Halved:
    """Half of the observed range."""

    share: float = 0.5

    def empty(self):
        return MinMax()

    def range(self, seen, spec):
        return Range(seen.lo * self.share, seen.hi * self.share)

    def explain(self, seen, spec):
        return f"{self.share:g} of [{seen.lo:g}, {seen.hi:g}]"
'''

OPERATOR = '''
"""An operator in one file: Tanh, whose output lies in -1..1."""

from quantlab.plan import Wish, activation, op_rules


@op_rules.register("Tanh")
def tanh(node, view, settings):
    """Round input and output."""
    out = Wish(tensor=node.output[0], spec=settings.activation, fixed=(-1.0, 1.0))
    return [activation(node.input[0], settings), out]
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    def write(name, text):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        monkeypatch.syspath_prepend(tmp_path)
        importlib.import_module(name)

    with calibrators.scoped(), op_rules.scoped():
        yield write
    for name in ("one_file_rule", "one_file_operator"):
        sys.modules.pop(name, None)


def tanh_model():
    text = '<ir_version: 8, opset_import: ["" : 13]> g (float[N, 4] x) => (float[N, 4] y) { y = Tanh(x) }'
    return onnx.parser.parse_model(text)


def test_a_new_range_rule_is_one_file(module):
    module("one_file_rule", RULE)
    data = [{"x": np.array([[-2.0, 0.0, 1.0, 4.0]], np.float32)}]
    text = '<ir_version: 8, opset_import: ["" : 13]> g (float[N, 4] x) => (float[N, 4] y) { y = Sigmoid(x) }'
    recipe = quantlab.Recipe(calibrate="halved")
    plan = quantlab.quantize(onnx.parser.parse_model(text), data, recipe).plan
    assert plan.tensors["x"].qparams.scale == np.float32(3 / 255)
    assert plan.tensors["x"].source == "0.5 of [-2, 4]"


def test_a_new_operator_is_one_file(module):
    data = [{"x": np.array([[-2.0, 0.0, 1.0, 4.0]], np.float32)}]
    before = quantlab.quantize(tanh_model(), data).plan
    assert before.nodes["Tanh_0"].reason == "there is no rule for operator Tanh"
    module("one_file_operator", OPERATOR)
    after = quantlab.quantize(tanh_model(), data).plan
    assert after.nodes["Tanh_0"].status == "quantized"
    assert after.tensors["y"].qparams.scale == np.float32(2 / 255)


def test_both_are_gone_again_afterwards():
    assert "halved" not in calibrators
    assert "Tanh" not in op_rules


def test_messages():
    table = Registry("range rule", "quantlab.plan.rules")
    table.register("one")(1)
    with pytest.raises(OptionError, match="range rule 'one' is registered already; choose another name"):
        table.register("one")(2)
    with pytest.raises(OptionError, match=r"unknown range rule 'ones'; did you mean 'one'\? \(allowed: one\)"):
        table["ones"]
