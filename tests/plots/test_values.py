"""Pictures of values, of range rules and of channels: what they show, and what they refuse."""

import numpy as np
import pytest
from matplotlib.colors import same_color, to_hex

from quantlab.arrays import INT4, INT8, UINT8, QParams, QuantSpec, Range, qparams_from_range
from quantlab.calibration import Histogram, MinMaxRule, RuleObserver
from quantlab.debug.findings import Channels
from quantlab.errors import DataError, OptionError, RangeError
from quantlab.plots import plot_channels, plot_histogram, plot_observers
from quantlab.plots.histogram import BARS, percent
from quantlab.plots.style import CLIPPED, USED, ZERO, all_shortened, shortened

noise = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
SPEC = QuantSpec(dtype=UINT8)


def grid_of(lo, hi, spec=SPEC):
    return qparams_from_range(Range(np.float32(lo), np.float32(hi)), spec)


def labelled(artists, label):
    return [artist for artist in artists if artist.get_label() == label]


def lines_at(axes, label="_grid"):
    return [line.get_xdata()[0] for line in labelled(axes.get_lines(), label)]


def words(axes):
    return [text.get_text() for text in axes.texts]


# Histograms


def test_bars_hold_every_value_where_it_lies():
    axes = plot_histogram(noise)
    (bars,) = axes.patches
    counts, edges, _ = bars.get_data()
    assert BARS // 2 <= counts.size <= BARS
    assert counts.tolist() == np.histogram(noise.astype(np.float64), edges)[0].tolist()
    assert counts.sum() == noise.size
    assert same_color(bars.get_facecolor(), USED)
    assert axes.get_title() == f"20,000 values from {noise.min():.4g} to {noise.max():.4g}"
    assert [same_color(line.get_color(), ZERO) for line in labelled(axes.get_lines(), "_zero")] == [True]


def test_an_array_and_its_histogram_give_the_same_bars():
    seen = Histogram().update(noise[:7000]).update(noise[7000:])
    first, second = (plot_histogram(data).patches[0].get_data() for data in (noise, seen))
    assert first.values.tolist() == second.values.tolist()
    assert first.edges.tolist() == second.edges.tolist()


def test_the_lines_stand_at_the_ends_of_the_grid_and_shares_are_those_of_a_count():
    grid = grid_of(-1, 2)
    span = grid.span()
    axes = plot_histogram(noise, grid=grid)
    assert lines_at(axes) == [float(span.lo), float(span.hi)]
    shaded = labelled(axes.patches, "_clipped")
    assert [to_hex(patch.get_facecolor()) for patch in shaded] == [CLIPPED] * 2
    assert shaded[0].get_x() + shaded[0].get_width() == pytest.approx(float(span.lo))
    assert shaded[1].get_x() == pytest.approx(float(span.hi))
    assert words(axes) == [
        f"{np.mean(noise < span.lo):.1%} clipped",
        f"{np.mean(noise > span.hi):.1%} clipped",
    ]
    assert axes.get_title().endswith(f"\nuint8: scale {float(grid.scale):.4g}, zero point 85")


def test_the_share_of_a_histogram_is_right_to_a_bin():
    grid = grid_of(-0.5, 1)
    axes = plot_histogram(Histogram().update(noise), grid=grid)
    exact = [np.mean(noise < grid.span().lo), np.mean(noise > grid.span().hi)]
    width = np.diff(Histogram().update(noise).edges())[0]
    density = np.histogram(noise, bins=50)[0].max() / noise.size / ((noise.max() - noise.min()) / 50)
    for text, share in zip(words(axes), exact, strict=True):
        assert abs(float(text.split("%")[0]) / 100 - share) <= width * density + 0.0005  # as far as it is written


def test_a_wider_grid_clips_nothing_and_is_seen_whole():
    grid = grid_of(-20, 30)
    axes = plot_histogram(noise, grid=grid)
    assert not labelled(axes.patches, "_clipped")
    assert words(axes) == []
    left, right = axes.get_xlim()
    assert left < float(grid.span().lo)
    assert right > float(grid.span().hi)


def test_logarithmic_counts_begin_below_one():
    axes = plot_histogram(noise, log=True)
    assert axes.get_yscale() == "log"
    assert axes.get_ylim()[0] == 0.5
    assert plot_histogram(noise).get_yscale() == "linear"


@pytest.mark.parametrize("data", [np.zeros(5, np.float32), np.full(3, -2.5), np.array([1e-30, 2e-30])])
def test_hardly_any_values(data):
    axes = plot_histogram(data, grid=grid_of(-1, 1))
    assert axes.patches[0].get_data().values.sum() == data.size


def test_absolute_values_have_their_name():
    assert plot_histogram(Histogram(absolute=True).update(noise)).get_xlabel() == "absolute value"


def test_small_shares_differ_from_nothing():
    assert [percent(share) for share in (0.25, 0.001, 0.00036)] == ["25.0%", "0.1%", "0.036%"]


def test_what_a_histogram_refuses():
    per_channel = qparams_from_range(Range(np.zeros(2), np.ones(2)), QuantSpec(dtype=INT8, axis=0))
    with pytest.raises(RangeError, match=r"a histogram is drawn with one scale: got int8, .* and 2 scales"):
        plot_histogram(noise, grid=per_channel)
    with pytest.raises(DataError, match="there is no finite value to draw: give an array or a histogram that holds"):
        plot_histogram(np.array([np.nan, np.inf]))
    with pytest.raises(DataError, match="does not tell what lies below a grid and what above: collect one of signed"):
        plot_histogram(Histogram(absolute=True).update(noise), grid=grid_of(-1, 1))
    with pytest.raises(DataError, match="int64"):
        plot_histogram(np.arange(3))


# Range rules


@pytest.mark.parametrize("spec", [SPEC, QuantSpec(dtype=INT8, symmetric=True)], ids=str)
def test_each_rule_has_the_lines_of_the_grid_that_its_observer_comes_to(spec):
    rules = ["minmax", "percentile", "mse"]
    axes = plot_observers(noise, rules, spec=spec)
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    for rule, text in zip(rules, texts, strict=True):
        observer = RuleObserver(rule, spec)
        observer.observe(noise)
        grid = observer.qparams()
        assert text == f"{rule}: scale {float(grid.scale):.4g}, zero point {int(grid.zero_point)}"
        assert lines_at(axes, text) == [float(grid.span().lo)]
    assert len(lines_at(axes, "_upper end")) == len(rules)
    assert len({line.get_color() for line in labelled(axes.get_lines(), "_upper end")}) == len(rules)


def test_rules_that_are_ready_and_rules_that_read_twice():
    axes = plot_observers(noise, [MinMaxRule(), "onnxruntime_percentile"])
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts[0].startswith("MinMaxRule(")
    assert texts[1].startswith("onnxruntime_percentile: scale ")


def test_what_observers_refuse():
    with pytest.raises(OptionError, match="rules must be 1 to 6 range rules, got 0"):
        plot_observers(noise, [])
    with pytest.raises(OptionError, match="unknown range rule 'minmix'; did you mean 'minmax'"):
        plot_observers(noise, ["minmix"])
    with pytest.raises(OptionError, match=r"observers are drawn for one scale, got int8, .*; drop the axis"):
        plot_observers(noise, spec=QuantSpec(dtype=INT8, axis=0))


# Channels


def test_bars_reach_from_the_least_to_the_largest_value():
    weights = noise[:600].reshape(5, 12, 10)
    for axis in (0, 1, -1):
        axes = plot_channels(weights, axis=axis)
        rows = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)
        ends = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in axes.patches]
        np.testing.assert_allclose(ends, np.stack([rows.min(1), rows.max(1)], axis=1), rtol=1e-12)
        assert axes.get_xlabel() == f"channel of axis {axis % 3}"


def test_one_grid_is_two_lines_and_what_lies_beyond_is_amber():
    weights = np.array([[-1.0, 0.5], [-0.25, 3.0]], np.float32)
    grid = grid_of(-2, 2, QuantSpec(dtype=INT8, symmetric=True))
    axes = plot_channels(weights, grid=grid)
    lines = [line.get_ydata()[0] for line in labelled(axes.get_lines(), "_grid")]
    assert lines == [float(grid.span().lo), float(grid.span().hi)]
    (clipped,) = labelled(axes.patches, "_clipped")
    assert to_hex(clipped.get_facecolor()) == CLIPPED
    reach = clipped.get_data()
    assert (reach.values - reach.baseline).tolist() == pytest.approx([0, 3 - float(grid.span().hi)])
    assert axes.get_ylim()[1] > 3


def test_grids_of_the_channels_are_steps():
    weights = noise[:60].reshape(6, 10)
    grid = qparams_from_range(Range(weights.min(1), weights.max(1)), QuantSpec(dtype=INT8, symmetric=True, axis=0))
    axes = plot_channels(weights, axis=0, grid=grid)
    lower, upper = (patch.get_data().values.tolist() for patch in labelled(axes.patches, "_grid"))
    assert (lower, upper) == (grid.span().lo.tolist(), grid.span().hi.tolist())
    assert "\nint8, a scale for each channel, from " in axes.get_title()


def test_many_channels_are_sorted_and_drawn_as_one_surface():
    weights = np.random.default_rng(1).standard_normal((1200, 4)) * np.linspace(0.1, 1, 1200)[:, None]
    grid = qparams_from_range(Range(weights.min(1), weights.max(1)), QuantSpec(dtype=INT8, symmetric=True, axis=0))
    axes = plot_channels(weights, grid=grid)
    order = np.argsort(-np.abs(weights).max(1), kind="stable")
    (bars,) = labelled(axes.patches, "_channels")
    assert bars.get_data().values.tolist() == weights.max(1)[order].tolist()
    assert bars.get_data().baseline.tolist() == weights.min(1)[order].tolist()
    (surface,) = labelled(axes.patches, "_grid")
    assert surface.get_data().values.tolist() == grid.span().hi[order].tolist()
    assert axes.get_xlabel() == "channel of axis 0, largest magnitude first"
    assert axes.get_title().startswith("1,200 channels of axis 0: largest magnitudes from ")


def test_channels_that_were_found_already():
    found = Channels(axis=1, lo=np.array([-1.0, -2]), hi=np.array([1.0, 0.5]), sqnr_db=np.zeros(2))
    axes = plot_channels(found)
    assert [(bar.get_y(), bar.get_height()) for bar in axes.patches] == [(-1.0, 2.0), (-2.0, 2.5)]
    with pytest.raises(DataError, match="these are channels of axis 1, got axis=0: leave it out"):
        plot_channels(found, axis=0)


def test_what_channels_refuse():
    weights = noise[:60].reshape(6, 10)
    grid = qparams_from_range(Range(weights.min(1), weights.max(1)), QuantSpec(dtype=INT8, axis=0))
    with pytest.raises(RangeError, match="10 channels of axis 1 do not fit a grid of 6 scales along axis 0"):
        plot_channels(weights, axis=1, grid=grid)
    with pytest.raises(DataError, match=r"an array of shape \(6, 10\) has no axis 2: give one of 0..1"):
        plot_channels(weights, axis=2)
    with pytest.raises(DataError, match=r"an array of shape \(0, 3\) holds no value"):
        plot_channels(np.zeros((0, 3)))
    with pytest.raises(DataError, match="channel 1 of axis 0 holds values that are not finite"):
        plot_channels(np.array([[0.0], [np.nan]]))
    blocks = QParams(
        scale=np.ones((6, 2), np.float32),
        zero_point=np.zeros((6, 2), np.int8),
        spec=QuantSpec(dtype=INT4, axis=1, block_size=5),
    )
    with pytest.raises(
        RangeError, match=r"channels are drawn with a grid per tensor or per channel, got int4, .*block"
    ):
        plot_channels(weights, grid=blocks)


# Names


def test_names_lose_their_middle():
    assert shortened("a" * 28) == "a" * 28
    short = shortened("/encoder/layers.11/attention/self/query/MatMul_output_0", 20)
    assert short == "/encoder/…l_output_0"
    assert len(short) == 20


def test_names_that_differ_stay_different():
    names = [f"/a/very/long/way/to/layers.{number}/attention/self/query/MatMul_output_0" for number in range(12)]
    cut = all_shortened([*names, "short"], 36)
    assert len(set(cut)) == 13
    assert max(map(len, cut)) == 36
    assert cut[-1] == "short"
