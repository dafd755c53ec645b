"""Pictures of mappings: what they show, that they are the same each time, and what they refuse."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import same_color

from quantlab.arrays import INT4, INT8, UINT8, UINT16, QuantSpec, Range, qparams_from_range
from quantlab.errors import OptionError, QuantlabError, RangeError
from quantlab.plots import figures, mapping

COMMITTED = Path(__file__).parents[2] / "docs" / "images" / "mapping.svg"
VALUES = Range(np.float32(-1), np.float32(3))
AFFINE, SYMMETRIC = QuantSpec(dtype=INT4), QuantSpec(dtype=INT4, symmetric=True, narrow_range=True)


def joining_lines(axes):
    """The lines that lead from the real axis down to the integers, as (real end, integer end, colour)."""
    lines = [line for line in axes.get_lines() if list(line.get_ydata()) == [mapping.REAL, mapping.INTEGER]]
    return [(*line.get_xdata(), line.get_color()) for line in lines]


def words(axes):
    return [text.get_text() for text in axes.texts]


def test_four_bits_show_every_level_and_eight_bits_some():
    assert len(joining_lines(mapping.plot_mapping(VALUES, AFFINE))) == 16
    assert len(joining_lines(mapping.plot_mapping(VALUES, QuantSpec(dtype=UINT8)))) <= 18


@pytest.mark.parametrize("dtype", [INT4, INT8, UINT8, UINT16], ids=str)
@pytest.mark.parametrize("ends", [(-1, 3), (0, 6), (-6, 0), (0, 0), (-1e-3, 1e5)])
def test_the_levels_drawn_hold_both_ends_and_zero(dtype, ends):
    grid = qparams_from_range(Range(np.float32(ends[0]), np.float32(ends[1])), QuantSpec(dtype=dtype))
    levels = mapping.drawn_levels(grid)
    assert {dtype.qmin, int(grid.zero_point), dtype.qmax} <= set(levels)
    assert levels == sorted(set(levels))
    assert len(levels) <= mapping.MOST_LINES + 2
    assert dtype.qmin == levels[0]
    assert dtype.qmax == levels[-1]


def test_real_ends_lie_as_far_apart_as_the_scale_says():
    reals = [real for real, _, _ in joining_lines(mapping.plot_mapping(VALUES, AFFINE))]
    steps = np.diff(reals)
    assert np.allclose(steps, steps[0])
    assert steps[0] > 0


def test_exactly_one_line_is_zero_and_a_symmetric_grid_has_idle_levels():
    colours = [colour for _, _, colour in joining_lines(mapping.plot_mapping(VALUES, SYMMETRIC))]
    assert sum(same_color(colour, mapping.ZERO) for colour in colours) == 1
    # Steps of 3/7: -8 to -3 lie below -1 by more than half a step, -2 and -1 do not.
    assert sum(same_color(colour, mapping.IDLE) for colour in colours) == 6
    colours = [colour for _, _, colour in joining_lines(mapping.plot_mapping(VALUES, AFFINE))]
    assert not any(same_color(colour, mapping.IDLE) for colour in colours)


def test_words():
    axes = mapping.plot_mapping(VALUES, AFFINE)
    assert words(axes) == ["lo = -1", "hi = 3", "0", "-8", "-4", "7", "real", "int4", "→ -8", "→ 7"]
    assert axes.get_title() == "int4, asymmetric, per tensor: scale 0.266667, zero point -4"
    assert "0" not in words(mapping.plot_mapping(Range(0.0, 6.0), QuantSpec(dtype=INT8)))


def test_drawing_into_given_axes_returns_them():
    axes = mapping.plot_mapping(VALUES, AFFINE)
    assert mapping.plot_mapping(VALUES, SYMMETRIC, axes=axes) is axes


@pytest.mark.parametrize("ending", [".svg", ".png"])
def test_a_picture_has_the_same_bytes_each_time(tmp_path, ending):
    for name in ("a", "b"):
        figures.save_figure(mapping.mapping_figure(VALUES, [AFFINE, SYMMETRIC]), tmp_path / (name + ending))
    first, second = ((tmp_path / (name + ending)).read_bytes() for name in ("a", "b"))
    assert first == second
    assert 1_000 < len(first) < 100_000


def test_the_committed_picture_is_what_the_library_draws_now(tmp_path):
    """Compared by words and number of curves, for the coordinates depend on the version of matplotlib."""
    figures.save_figure(mapping.mapping_figure(VALUES, [AFFINE, SYMMETRIC]), tmp_path / "mapping.svg")
    fresh, committed = (tmp_path / "mapping.svg").read_text(), COMMITTED.read_text()
    for pattern in (r"<text[^>]*>([^<]*)</text>", r'<path d="|<use '):
        assert re.findall(pattern, committed) == re.findall(pattern, fresh)
    assert re.findall(r"<text", committed)


def test_messages(monkeypatch, tmp_path):
    per_channel = QuantSpec(dtype=INT8, axis=0)
    with pytest.raises(RangeError, match="a mapping is drawn for one scale: got int8, asymmetric, per channel of axis"):
        mapping.plot_mapping(VALUES, per_channel)
    with pytest.raises(RangeError, match=r"a mapping is drawn for one scale: got .* a range of shape \(2,\)"):
        mapping.plot_mapping(Range(np.zeros(2), np.ones(2)), AFFINE)
    with pytest.raises(OptionError, match="specs is empty: give at least one grid to draw"):
        mapping.mapping_figure(VALUES, [])
    figure = mapping.mapping_figure(VALUES, [AFFINE])
    with pytest.raises(OptionError, match=r"picture '.*a\.gif' must be named \*\.svg or \*\.png"):
        figures.save_figure(figure, tmp_path / "a.gif")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(QuantlabError, match=r"drawing needs matplotlib: pip install 'quantlab-onnx\[plots\]'"):
        mapping.plot_mapping(VALUES, AFFINE)
