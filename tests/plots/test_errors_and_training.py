"""Pictures of errors, trainings and landmarks: what they show, and what they refuse."""

import math

import numpy as np
import pytest
from matplotlib.colors import same_color

from quantlab.debug.findings import Comparison, TensorError
from quantlab.errors import DataError, OptionError
from quantlab.plots import plot_landmarks, plot_sqnr, plot_training
from quantlab.plots.figures import new_figure
from quantlab.plots.sqnr import KINDS


def row(name, kind, decibels, local):
    numbers = dict.fromkeys(("lo", "hi", "below", "above", "rounding", "clipping_below", "clipping_above"), 0.0)
    rest = dict.fromkeys(("cosine", "mse", "max_error"), 0.0)
    return TensorError(
        name=name, kind=kind, node="n", op_type="Conv", dtype="int8", grid=None, count=1,
        local_db=local, sqnr_db=decibels, **numbers, **rest,
    )  # fmt: skip


FOUND = Comparison(
    tensors=(
        row("conv_out", "activation", 21.0, 35.0),
        row("conv.weight", "weight", 38.0, 38.0),
        row("conv.bias", "bias", math.inf, math.inf),
    ),
    outputs=(row("logits", "output", 28.0, math.nan),),
    agreement=None,
    metrics={},
    samples=1,
    unmatched=(),
)


def bars(axes):
    return [bar for bar in axes.patches if bar.get_width() and bar.get_label().startswith("_")]


def labels(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


# Errors


def test_bars_are_sorted_and_coloured_by_kind():
    axes = plot_sqnr(FOUND)
    assert labels(axes) == ["conv_out", "logits", "conv.weight", "conv.bias"]
    lengths = [bar.get_width() for bar in bars(axes)]
    assert lengths[:3] == [21.0, 28.0, 38.0]
    assert lengths[3] == axes.get_xlim()[1]
    kinds = ["activation", "output", "weight", "bias"]
    assert all(same_color(bar.get_facecolor(), KINDS[kind]) for bar, kind in zip(bars(axes), kinds, strict=True))
    assert len(set(KINDS.values())) == 4
    assert legend(axes) == ["own grid alone", "weight", "bias", "activation", "output"]
    assert [text.get_text().strip() for text in axes.texts] == ["∞"]
    assert axes.get_xlabel() == "SQNR in dB: higher is less error, 6 dB more is half of it"
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the worst on top


def test_marks_stand_at_the_local_error():
    (marks,) = (found for found in plot_sqnr(FOUND).collections if found.get_label() == "_local")
    assert marks.get_offsets().tolist() == [[35.0, 0.0], [38.0, 2.0]]


def test_a_mapping_has_one_colour_and_no_marks():
    axes = plot_sqnr({"a": 30.0, "b": -3.0, "c": math.nan})
    assert labels(axes) == ["b", "a"]
    assert [bar.get_width() for bar in bars(axes)] == [-3.0, 30.0]
    assert axes.get_legend() is None
    assert axes.get_xlim()[0] < -3
    assert axes.get_title() == "all 2 tensors"


def test_the_worst_are_shown_and_the_figure_grows_with_them():
    many = {f"tensor {number}": float(number) for number in range(100)}
    few, all_ = plot_sqnr(many, worst=3), plot_sqnr(many, worst=100)
    assert labels(few) == ["tensor 0", "tensor 1", "tensor 2"]
    assert few.get_title() == "the worst 3 of 100 tensors"
    assert all_.figure.get_figheight() > 5 * few.figure.get_figheight()


def test_only_infinite_and_only_negative_decibels():
    assert plot_sqnr({"a": math.inf}).get_xlim() == (0.0, 1.0)
    assert plot_sqnr({"a": -math.inf, "b": -4.0}).get_xlim()[0] < -4


def test_what_an_error_picture_refuses():
    with pytest.raises(DataError, match="there is no tensor to draw: the comparison or mapping is empty"):
        plot_sqnr({})
    with pytest.raises(OptionError, match="worst must be at least 1, got 0"):
        plot_sqnr(FOUND, worst=0)


# Training

HISTORY = {
    "test, float": {"accuracy": [0.95]},
    "train": {"loss": [0.9, 0.4, 0.3], "accuracy": [0.7, 0.8, 0.9]},
    "test": {"accuracy": [0.6, math.nan, 0.8]},
}


def test_a_panel_for_each_measure_and_a_curve_for_each_series():
    accuracy, loss = plot_training(HISTORY)
    assert [panel.get_title() for panel in (accuracy, loss)] == ["accuracy", "loss"]
    assert accuracy.figure is loss.figure
    assert legend(accuracy) == ["test, float", "train", "test"]
    assert legend(loss) == ["train"]
    level, train, test = accuracy.get_lines()
    assert set(level.get_ydata()) == {0.95}
    assert (list(train.get_xdata()), list(train.get_ydata())) == ([1, 2, 3], [0.7, 0.8, 0.9])
    assert np.isnan(test.get_ydata()[1])
    assert loss.get_lines()[0].get_color() == train.get_color()


def test_a_training_is_drawn_on_given_axes():
    figure = new_figure((4, 3))
    given = [figure.add_subplot(2, 1, place) for place in (1, 2)]
    assert plot_training(HISTORY, axes=given) == tuple(given)
    with pytest.raises(OptionError, match=r"2 measures \(accuracy, loss\) need as many axes, got 1"):
        plot_training(HISTORY, axes=given[:1])


def test_what_a_training_refuses():
    with pytest.raises(DataError, match="the history is empty: give series to measure to numbers"):
        plot_training({"train": {}})
    with pytest.raises(DataError, match="series 'train' has no number for 'loss': give one an epoch, or leave it out"):
        plot_training({"train": {"loss": []}})
    with pytest.raises(OptionError, match="7 series cannot be told apart in one picture: give at most 6"):
        plot_training({str(number): {"loss": [1.0]} for number in range(7)})


# Landmarks

POINTS = {"float": [[2.0, 3.0], [5.0, 3.0]], "PTQ": [[2.0, 4.0], [5.0, 6.0]], "QAT": [[2.0, 3.0], [5.0, 3.5]]}


def test_points_stand_where_they_were_found_and_lines_lead_there():
    axes = plot_landmarks(np.zeros((8, 8)), POINTS)
    drawn = [found.get_offsets().tolist() for found in axes.collections]
    assert drawn == list(POINTS.values())
    assert legend(axes) == ["float", "PTQ: 2.00 pixels away on average", "QAT: 0.25 pixels away on average"]
    ways = [line.get_xydata().tolist() for line in axes.get_lines()]
    assert ways[1] == [[5.0, 3.0], [5.0, 6.0]]
    assert len(ways) == 4


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 3), (3, 6, 8), (1, 6, 8), (6, 8, 1)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_an_image_keeps_its_pixels(shape, kind):
    image = (np.random.default_rng(0).random(shape) * (255 if kind is np.uint8 else 1)).astype(kind)
    shown = plot_landmarks(image, POINTS).images[0].get_array()
    assert shown.shape == ((6, 8, 3) if 3 in shape else (6, 8))
    wanted = np.moveaxis(image, 0, -1) if shape[0] in (1, 3) else image
    np.testing.assert_allclose(np.asarray(shown).reshape(wanted.shape), wanted, rtol=1e-6)


def test_what_landmarks_refuse():
    with pytest.raises(DataError, match=r"an image of shape \(5,\) cannot be drawn: give \(H, W\), \(H, W, 3\) or"):
        plot_landmarks(np.zeros(5), POINTS)
    with pytest.raises(DataError, match=r"points of 'b' have shape \(1, 2\): give \(2, 2\), x before y"):
        plot_landmarks(np.zeros((8, 8)), {"a": [[1, 2], [3, 4]], "b": [[1, 2]]})
    with pytest.raises(OptionError, match="points must be those of 1 to 6 labels, got 0"):
        plot_landmarks(np.zeros((8, 8)), {})
