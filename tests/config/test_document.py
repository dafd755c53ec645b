"""YAML documents whose values know their places."""

import subprocess
import sys

import pytest

from quantlab.config.document import parse, read
from quantlab.errors import OptionError, QuantlabError

TEXT = """\
# a comment
model: m.onnx
defaults: &all {per_channel: true, bias: false}
trials:
  - name: a
    bias: true
  - {<<: *all, name: b, bias: 3}
"""


def test_values_know_line_and_path():
    document = parse(TEXT, "x.yaml")
    trials = document.mapping()["trials"].items()
    assert (trials[0].mapping()["bias"].line, trials[0].mapping()["bias"].path) == (6, "trials[0].bias")
    assert document.plain() == {
        "model": "m.onnx",
        "defaults": {"per_channel": True, "bias": False},
        "trials": [{"name": "a", "bias": True}, {"per_channel": True, "bias": 3, "name": "b"}],
    }
    assert trials[1].mapping()["bias"].line == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.yaml is empty: give keys and values"),
        ("a: 1\nb: 2\na: 3\n", "x.yaml, line 3, a: this key stands on line 1 already: keep one"),
        ("a: [1, 2", "x.yaml is no YAML: while parsing a flow sequence"),
        ("a: !!python/object:os.system 1", "x.yaml is no YAML: could not determine a constructor"),
        (
            "a: !!python/object:os.system {}",
            "x.yaml, line 1, a: the tag 'tag:yaml.org,2002:python/object:os.system' has",
        ),
    ],
)
def test_what_is_no_document(text, message):
    with pytest.raises(OptionError) as error:
        parse(text, "x.yaml")
    assert str(error.value).startswith(message)


def test_what_is_of_the_wrong_kind():
    document = parse("a: {b: yes, c: [1]}\n", "x.yaml")
    inner = document.mapping()["a"]
    with pytest.raises(OptionError, match=r"^x\.yaml, line 1, a: this must be a list, got {'b': True, 'c': \[1\]}$"):
        inner.items()
    with pytest.raises(OptionError, match=r"^x\.yaml, line 1, a\.b: this must be an integer, got True$"):
        inner.mapping()["b"].of_kind(int, "an integer")
    with pytest.raises(
        OptionError, match=r"^x\.yaml, line 1, a\.c\[0\]: this must be a mapping of keys to values, got"
    ):
        inner.mapping()["c"].items()[0].mapping()
    with pytest.raises(OptionError, match=r"a\.b: unknown key 'b'; did you mean 'bb'\? \(allowed: bb, c\)$"):
        inner.mapping(["bb", "c"])


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(OptionError, match="cannot be read"):
        read(tmp_path / "gone.yaml")


def test_without_pyyaml_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(QuantlabError, match=r"reading a YAML file needs PyYAML: pip install 'quantlab-onnx\[cli\]'"):
        parse("a: 1", "x.yaml")


def test_pyyaml_is_loaded_when_a_file_is_read_and_not_before():
    code = "import sys, quantlab.config.ablation, quantlab.cli.app; print('yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"
