"""The table of types against onnx and NumPy, and grids before numbers."""

import numpy as np
import pytest
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quant_utils

from quantlab.arrays import DTYPES, QuantSpec, dtype
from quantlab.errors import OptionError
from quantlab.plan import activation_spec, weight_spec


@pytest.mark.parametrize("row", [row for row in DTYPES.values() if not row.is_float], ids=str)
def test_rows_agree_with_onnx_and_numpy(row):
    assert TensorProto.DataType.Name(row.onnx_code) == row.name.upper()
    assert row.qmin <= 0 <= row.qmax
    assert row.qmax - row.qmin == 2**row.bits - 1
    limits = np.iinfo(row.storage)
    assert limits.min <= row.qmin
    assert row.qmax <= limits.max


@pytest.mark.parametrize("name", ["int4", "uint4", "int8", "uint8", "int16", "uint16"])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("reduce_range", [False, True])
def test_spans_are_those_of_onnxruntime_quantization(name, symmetric, reduce_range):
    wanted = quant_utils.get_qmin_qmax_for_qType(
        getattr(TensorProto, name.upper()), reduce_range=reduce_range, symmetric=symmetric
    )
    spec = weight_spec(name, symmetric=symmetric, reduce_range=reduce_range)
    assert (spec.qmin, spec.qmax) == tuple(int(end) for end in wanted)


@pytest.mark.parametrize("spelling", ["int8", "Int8", "QInt8", "QuantType.QInt8", str(QuantType.QInt8)])
def test_types_are_found_in_every_spelling(spelling):
    assert dtype(spelling).name == "int8"


def test_unknown_type_names_the_nearest():
    with pytest.raises(OptionError, match=r"unknown type 'uint88'; did you mean 'uint8'"):
        dtype("uint88")


@pytest.mark.parametrize(
    "spec",
    [
        activation_spec("uint8"),
        activation_spec("int16", symmetric=True),
        weight_spec("int8", reduce_range=True),
        QuantSpec(dtype=dtype("int4"), symmetric=True, axis=1),
    ],
    ids=str,
)
def test_specs_survive_json(spec):
    assert QuantSpec.from_json(spec.to_json()) == spec
