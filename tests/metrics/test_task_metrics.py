"""Task metrics against naive loops; the same number however the data is cut; and what they refuse."""

import math
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.errors import DataError, OptionError
from quantlab.metrics import parse_metric, task_metric, task_metrics

RNG = np.random.default_rng(7)


def run(metric, exact, rounded=None, labels=None, cuts=(), **batch):
    """Feed a metric the data, cut before the rows in `cuts`."""
    rounded = exact if rounded is None else rounded
    extra = batch | ({} if labels is None else {"label": labels})
    starts = [0, *sorted(cuts)]
    for start, end in zip(starts, [*starts[1:], len(exact)], strict=True):
        part = slice(start, end)
        metric.update({"y": exact[part]}, {"y": rounded[part]}, {key: value[part] for key, value in extra.items()})
    return metric.result()


LOGITS = RNG.standard_normal((40, 5)).astype(np.float32)
NOISY = LOGITS + 0.5 * RNG.standard_normal((40, 5)).astype(np.float32)
LABELS = np.where(RNG.random(40) < 0.6, LOGITS.argmax(1), RNG.integers(0, 5, 40))
TOKENS = RNG.standard_normal((6, 7, 11))
FACES = RNG.random((9, 68, 2)) * 100


def test_top1_counts_rows_with_the_same_largest_entry():
    expected = sum(int(np.argmax(a)) == int(np.argmax(b)) for a, b in zip(LOGITS, NOISY, strict=True)) / 40
    assert run(task_metric("top1"), LOGITS, NOISY) == expected
    assert 0 < expected < 1


def test_cosine_and_sqnr_are_those_of_all_the_data_as_one_vector():
    x, y = LOGITS.ravel().astype(float), NOISY.ravel().astype(float)
    cosine = sum(a * b for a, b in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y)
    assert run(task_metric("cosine"), LOGITS, NOISY, cuts=[3, 17]) == pytest.approx(cosine, rel=1e-12)
    noise = sum((a - b) ** 2 for a, b in zip(x, y, strict=True))
    expected = 10 * np.log10(sum(a * a for a in x) / noise)
    assert run(task_metric("sqnr"), LOGITS, NOISY, cuts=[5]) == pytest.approx(expected, rel=1e-12)
    assert run(task_metric("sqnr"), LOGITS) == np.inf
    assert run(task_metric("cosine"), np.zeros((2, 3))) == 1.0


def test_losses_are_those_of_a_naive_loop():
    pairs = [(float(a), float(b)) for a, b in zip(LOGITS.ravel(), NOISY.ravel(), strict=True)]
    expected = sum((a - b) ** 2 for a, b in pairs) / len(pairs)
    assert run(task_metric("mse"), LOGITS, NOISY, cuts=[9]) == pytest.approx(expected)
    rows = [[float(score) for score in row] for row in LOGITS]
    expected = sum(-math.log(math.exp(row[t]) / sum(map(math.exp, row))) for row, t in zip(rows, LABELS, strict=True))
    assert run(task_metric("cross_entropy"), LOGITS, labels=LABELS) == pytest.approx(expected / 40)
    assert run(task_metric("cross_entropy"), 1e4 * np.eye(5), labels=np.arange(5)) == 0.0  # e^10000 does not overflow


def test_token_agreement_counts_tokens_where_the_mask_is_not_0():
    noisy = TOKENS + 0.7 * RNG.standard_normal(TOKENS.shape)
    mask = (RNG.random((6, 7)) < 0.7).astype(np.int64)
    pairs = [TOKENS[i, j].argmax() == noisy[i, j].argmax() for i in range(6) for j in range(7) if mask[i, j]]
    assert run(task_metric("token_agreement:mask=m"), TOKENS, noisy, m=mask, cuts=[2]) == sum(pairs) / len(pairs)
    everywhere = (TOKENS.argmax(-1) == noisy.argmax(-1)).mean()
    assert run(task_metric("token_agreement"), TOKENS, noisy) == everywhere


def by_hand(truth, found, classes):
    """F1 of each class from precision and recall, by counting pairs."""
    pairs = list(zip(map(int, truth), map(int, found), strict=True))
    scores = []
    for one in classes:
        hits = pairs.count((one, one))
        answers, there = sum(b == one for _, b in pairs), sum(a == one for a, _ in pairs)
        precision, recall = hits / answers if answers else 0.0, hits / there if there else 0.0
        scores.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    return scores


def test_accuracy_and_top_k_look_for_the_label_among_the_largest():
    for k in range(1, 6):
        order = [sorted(range(5), key=lambda c, row=row: -row[c]) for row in LOGITS]
        expected = sum(label in best[:k] for label, best in zip(LABELS, order, strict=True)) / 40
        assert run(task_metric("top_k", k=k), LOGITS, labels=LABELS) == expected
        if k == 1:
            assert run(task_metric("accuracy"), LOGITS, labels=LABELS[:, None]) == expected


def test_of_equal_entries_the_earlier_one_is_found_as_by_arg_max():
    level = np.zeros((3, 3))
    assert run(task_metric("top_k:k=1"), level, labels=np.array([0, 1, 2])) == pytest.approx(1 / 3)
    assert run(task_metric("top_k:k=2"), level, labels=np.array([0, 1, 2])) == pytest.approx(2 / 3)


def test_macro_f1_is_the_mean_over_the_classes_that_occur():
    # Class 4 is neither given nor found.
    truth = LABELS % 4
    wide = np.concatenate([LOGITS[:, :4], np.full((40, 1), -9.0)], axis=1)
    expected = np.mean(by_hand(truth, wide.argmax(1), range(4)))
    assert run(task_metric("f1"), wide, labels=truth, cuts=[11]) == pytest.approx(expected)


def test_micro_f1_is_the_accuracy_where_a_row_has_one_class():
    expected = run(task_metric("accuracy"), LOGITS, labels=LABELS)
    assert run(task_metric("f1:average=micro"), LOGITS, labels=LABELS) == pytest.approx(expected)


@pytest.mark.parametrize("columns", [0, 1, 2])
def test_binary_f1_is_that_of_class_1_from_one_number_or_two_columns(columns):
    scores = LOGITS[:, :columns] if columns else LOGITS[:, 0]
    found = scores.argmax(1) if columns == 2 else scores.reshape(-1) > 0
    truth = LABELS % 2
    assert run(task_metric("f1:average=binary"), scores, labels=truth) == pytest.approx(by_hand(truth, found, [1])[0])
    assert run(task_metric("accuracy"), scores, labels=truth) == (truth == found).mean()
    assert run(task_metric("accuracy:threshold=99"), LOGITS[:, 0], labels=truth) == (truth == 0).mean()


def test_nme_is_the_mean_over_images_by_the_distance_of_the_eyes():
    found = FACES + RNG.standard_normal(FACES.shape)
    for norm, left, right in (("ocular", [36], [45]), ("pupil", range(36, 42), range(42, 48))):
        each = []
        for p, g in zip(found, FACES, strict=True):
            eyes = [np.mean([g[i] for i in points], axis=0) for points in (left, right)]
            d = np.hypot(*(eyes[0] - eyes[1]))
            each.append(np.mean([np.hypot(*(a - b)) for a, b in zip(p, g, strict=True)]) / d)
        metric = task_metric("nme", norm=norm)
        flat = found.reshape(9, -1)
        assert run(metric, flat, labels=FACES, cuts=[4]) == pytest.approx(np.mean(each))
        assert not metric.higher_is_better


def test_the_two_norms_differ_by_the_ratio_of_the_distances():
    # Corners 1.3861 apart and pupils 1 apart: the ratio that an experiment with both norms saw on real faces.
    face = np.array([[0.0, 0.0], [1.3861, 0.0], [0.19305, 0.0], [1.19305, 0.0]])
    truth = np.stack([face, 3 * face])
    found = truth + RNG.standard_normal(truth.shape)
    ocular = run(task_metric("nme:norm=ocular,left=0,right=1"), found, labels=truth)
    pupil = run(task_metric("nme:norm=pupil,left=2,right=3"), found, labels=truth)
    assert pupil / ocular == pytest.approx(1.3861)


def test_a_function_is_averaged_by_rows():
    seen = []

    def mean_of_first(exact, rounded):
        seen.append(len(exact["y"]))
        return np.abs(exact["y"] - rounded["y"]).mean()

    found = run(task_metric(mean_of_first), LOGITS, NOISY, cuts=[1])
    assert seen == [1, 39]
    assert found == pytest.approx(np.abs(LOGITS - NOISY).mean(), rel=1e-6)


CASES = {
    "top1": (LOGITS, NOISY, {}),
    "cosine": (LOGITS, NOISY, {}),
    "sqnr": (LOGITS, NOISY, {}),
    "mse": (LOGITS, NOISY, {}),
    "token_agreement": (TOKENS, TOKENS[:, :, ::-1].copy(), {}),
    "accuracy": (LOGITS, NOISY, {"label": LABELS}),
    "top_k": (LOGITS, NOISY, {"label": LABELS}),
    "f1": (LOGITS, NOISY, {"label": LABELS}),
    "cross_entropy": (LOGITS, NOISY, {"label": LABELS}),
    "nme": (FACES, FACES + 1, {"label": FACES}),
}


@pytest.mark.parametrize("name", task_metrics)
@given(data=st.data())
def test_the_result_is_the_same_however_the_data_is_cut(name, data):
    exact, rounded, extra = CASES[name]
    cuts = data.draw(st.sets(st.integers(1, len(exact) - 1)))
    whole = run(task_metric(name), exact, rounded, **extra)
    assert run(task_metric(name), exact, rounded, cuts=cuts, **extra) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("name", [name for name in task_metrics if CASES[name][2]])
def test_labels_may_be_one_array_for_all_the_data(name):
    exact, rounded, extra = CASES[name]
    expected = run(task_metric(name), exact, rounded, **extra)
    metric = task_metric(name, labels=extra["label"])
    assert metric.reads == ()
    assert task_metric(name).reads == ("label",)
    assert run(metric, exact, rounded, cuts=[2, 5]) == pytest.approx(expected)


@pytest.mark.parametrize("name", task_metrics)
def test_what_labels_judge_is_the_second_model_alone(name):
    exact, rounded, extra = CASES[name]
    judged = run(task_metric(name), exact, rounded, **extra)
    alone = run(task_metric(name), rounded, rounded, **extra)
    assert (judged == alone) == bool(extra) == task_metric(name).labelled


def test_options_are_read_from_text():
    assert parse_metric("top1") == ("top1", {})
    assert parse_metric(" f1 : average = micro , threshold=0.5 ") == ("f1", {"average": "micro", "threshold": 0.5})
    assert task_metric("top_k:k=5,labels=y").measure.k == 5
    assert task_metric("top_k:k=5", k=3).measure.k == 3
    assert task_metric("top_k:k=5,labels=y").reads == ("y",)


def test_another_output_than_the_first_can_be_named():
    metric = task_metric("top1:output=b")
    metric.update({"a": LOGITS, "b": LOGITS}, {"a": NOISY, "b": LOGITS}, {})
    assert metric.result() == 1.0


REFUSED = [
    (lambda: task_metric("top2"), OptionError, "unknown task metric 'top2'; did you mean 'top1' or 'top_k'?"),
    (lambda: task_metric("top_k", n=3), OptionError, "task metric 'top_k' has no option 'n' (allowed: k, labels, out"),
    (lambda: task_metric("top_k:k=0"), OptionError, "top_k: k=0 is not allowed; give a positive integer"),
    (lambda: task_metric("top_k:k"), OptionError, "'k' is no option; write NAME:OPTION=VALUE, as in top_k:k=5"),
    (lambda: task_metric("top_k:k=1,k=2"), OptionError, "gives the option 'k' twice: keep one"),
    (lambda: task_metric(3), OptionError, "a task metric is a name or a function (exact, rounded) -> float, got 3"),
    (lambda: task_metric(max, k=3), OptionError, "a function takes no options, got k"),
    (
        lambda: task_metric("f1:average=makro"),
        OptionError,
        "f1: average='makro' is not known; did you mean 'macro' or 'micro'?",
    ),
    (lambda: task_metric("nme:norm=eyes"), OptionError, "nme: norm='eyes' is not known (allowed: ocular, pupil)"),
    (lambda: task_metric("nme:left=3"), OptionError, "nme: left and right go together"),
    (lambda: task_metric("top1").result(), DataError, "asked for its result before it saw a batch"),
    (lambda: run(task_metric("top1"), LOGITS[:, 0]), DataError, "top1 needs classes along the last axis"),
    (lambda: run(task_metric("top1"), LOGITS, NOISY[:, :3]), DataError, "output 'y' has shape (40, 5) in one model"),
    (lambda: run(task_metric("top1:output=z"), LOGITS), DataError, "'z' is not an output of the model (allowed: 'y')"),
    (lambda: run(task_metric("accuracy"), LOGITS), DataError, "the data has no labels 'label'"),
    (lambda: run(task_metric("accuracy"), LOGITS, labels=LABELS * 1.0), DataError, "labels are of type float64"),
    (lambda: run(task_metric("accuracy"), LOGITS, labels=np.eye(5, dtype=int)[LABELS]), DataError, "(not one-hot)"),
    (lambda: run(task_metric("accuracy", labels=LABELS[:7]), LOGITS), DataError, "the data has 40 rows or more"),
    (lambda: run(task_metric("top_k"), LOGITS, labels=LABELS + 4), DataError, "the model has 5 classes"),
    (lambda: run(task_metric("f1"), LOGITS, labels=LABELS + 4), DataError, "the model has 5 classes"),
    (lambda: run(task_metric("f1:average=binary"), LOGITS, labels=LABELS), DataError, "is for two classes"),
    (lambda: run(task_metric("token_agreement"), LOGITS), DataError, "needs (batch, tokens, classes)"),
    (
        lambda: run(task_metric("token_agreement:mask=m"), TOKENS),
        DataError,
        "the mask 'm' has to have the shape (6, 7)",
    ),
    (lambda: run(task_metric("nme"), FACES[:, :5], labels=FACES[:, :5]), DataError, "is known for 68 only"),
    (lambda: run(task_metric("nme"), FACES, labels=FACES[:, :5]), DataError, "nme needs points (rows, points, 2)"),
    (lambda: run(task_metric("nme"), FACES, labels=FACES * 0), DataError, "distance of image 0 of the batch is 0"),
    (lambda: run(task_metric("nme:left=0,right=99"), FACES, labels=FACES), DataError, "points [99] do not exist"),
]


@pytest.mark.parametrize(("act", "error", "words"), REFUSED, ids=[case[2][:40] for case in REFUSED])
def test_refusals_say_what_to_do(act, error, words):
    with pytest.raises(error, match=re.escape(words)):
        act()


@pytest.mark.parametrize("name", task_metrics)
def test_every_metric_and_option_is_documented(name):
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |")).split("|")
    assert row[2].strip() == ("yes" if task_metric(name).labelled else "no")
    documented = set(re.findall(r"`(\w+)`", row[3]))
    assert documented | {"output"} == {option.name for option in fields(task_metrics[name])}
