"""Sizes: parameters counted, against the formula for convolutions that are separable in depth."""

import pytest
from onnx import helper, parser

from quantlab.demo import float_model
from quantlab.graph.files import load
from quantlab.graph.sizes import parameter_count
from quantlab.graph.view import GraphView
from tests.operators.harness import normal


def block(body, **constants):
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]> g (float[1,16,9,9] x) => (float[1,24,9,9] y) {{ {body} }}'
    )
    for name, values in constants.items():
        model.graph.initializer.append(helper.make_tensor(name, 1, values.shape, values.ravel()))
    return model


@pytest.mark.parametrize("k", [3, 5])
def test_a_convolution_separable_in_depth_has_one_by_n_plus_one_by_k_squared_of_the_parameters(k):
    pads = ", ".join([str(k // 2)] * 4)
    whole = block(f"y = Conv<pads = [{pads}]>(x, w)", w=normal(24, 16, k, k))
    apart = block(
        f"t = Conv<group = 16, pads = [{pads}]>(x, d) y = Conv(t, p)", d=normal(16, 1, k, k), p=normal(24, 16, 1, 1)
    )
    assert parameter_count(apart) / parameter_count(whole) == pytest.approx(1 / 24 + 1 / k**2)


def test_parameters_of_the_demo_model_are_the_elements_of_its_constants():
    model = load(float_model())
    view = GraphView.of(model)
    assert parameter_count(model) == sum(view.constant(name).size for name in view.constants)
