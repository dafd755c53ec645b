"""What a terminal shows, and what a pipe gets."""

import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from quantlab import __version__
from quantlab.cli.console import progress
from quantlab.cli.memory import memory
from quantlab.progress import quiet

VERBS = ["demo", "quantize", "plan", "apply", "explain", "compare", "preprocess"]
PROGRAM = [sys.executable, "-m", "quantlab.cli"]
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class FakeTerminal(io.StringIO):
    def isatty(self):
        return True


def batches(track):
    return list(track(range(5), "calibrating 3 tensors", 5))


def test_progress_on_a_terminal_says_what_is_done_and_how_much_is_left(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = FakeTerminal()
    with progress(terminal, samples_per_batch=4) as track:
        assert batches(track) == list(range(5))
    drawn = COLOURS.sub("", terminal.getvalue())
    assert "calibrating 3 tensors" in drawn
    assert "━" in drawn
    assert "20/20 samples" in drawn
    assert re.search(r"\d+/s .*\d:\d\d:\d\d .*\d+/\d+ MB", drawn)
    assert re.fullmatch(
        r"calibrating 3 tensors: 20 samples in \d+\.\d s \(\S+/s\), at most \d+ MB", drawn.splitlines()[-1].strip()
    )
    assert "0:00:00" in drawn


def test_progress_without_a_known_total(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = FakeTerminal()
    with progress(terminal) as track:
        assert list(track(iter("abc"), "reading")) == ["a", "b", "c"]
    assert "3/3 samples" in COLOURS.sub("", terminal.getvalue())


def test_work_that_fails_leaves_no_line(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = FakeTerminal()

    def interrupted():
        yield 0
        raise KeyboardInterrupt

    def work():
        with progress(terminal) as track:
            return list(track(interrupted(), "calibrating 3 tensors", 3))

    with pytest.raises(KeyboardInterrupt):
        work()
    assert " samples in " not in terminal.getvalue()


def test_memory_is_what_the_system_says(tmp_path):
    before = memory()
    block = np.ones(30_000_000)  # 240 MB, written to
    during = memory()
    del block
    after = memory()
    assert 0.8 * 240e6 < during.resident - before.resident < 1.2 * 240e6
    # The peak that a system keeps lags some pages behind.
    assert after.peak > before.resident + 0.8 * 240e6
    elsewhere = memory(tmp_path / "no such file")
    assert elsewhere.resident is None
    assert elsewhere.peak == pytest.approx(after.peak, rel=0.2)


@pytest.mark.parametrize(("file", "term"), [(io.StringIO(), "xterm"), (FakeTerminal(), "dumb")])
def test_no_progress_where_nobody_looks(monkeypatch, file, term):
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress(file) as track:
        assert track is quiet
        batches(track)
    assert file.getvalue() == ""


def in_terminal(columns, *arguments, cwd):
    """Run the program with a pseudo-terminal of some width as its standard streams; return all that it drew."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("COLUMNS", None)
    with subprocess.Popen(
        [*PROGRAM, *map(str, arguments)], stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env=environment
    ) as child:
        os.close(theirs)
        drawn = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux reports the closed other end so
                break
            if not part:
                break
            drawn += part
    os.close(ours)
    assert child.returncode == 0
    return drawn.decode()


def test_a_real_terminal_shows_a_bar_and_colours(files, tmp_path):
    drawn = in_terminal(80, "compare", files.model, files.int8, "-d", files.evaluation, cwd=tmp_path)
    assert "\x1b[" in drawn
    plain = COLOURS.sub("", drawn)
    assert "comparing " in plain
    assert "/100 samples" in plain


def test_a_warning_gets_a_line_of_its_own_beside_a_bar(files, tmp_path):
    np.savez(tmp_path / "zeros.npz", image=np.zeros((50, 1, 8, 8), np.float32))
    drawn = in_terminal(80, "quantize", files.model, "-d", "zeros.npz", "-o", "out.onnx", cwd=tmp_path)
    lines = re.split(r"[\r\n]+", COLOURS.sub("", drawn))
    assert any(line.startswith("warning: the first 8 samples are all zeros") for line in lines)


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("verb", ["plan", "explain", "compare"])
def test_nothing_is_wider_than_the_terminal(files, tmp_path, verb, columns):
    arguments = {
        "plan": [files.model, "-d", files.calibration, "--per-channel"],
        "explain": [files.per_channel],
        "compare": [files.model, files.per_channel, "-d", files.evaluation],
    }[verb]
    lines = COLOURS.sub("", in_terminal(columns, verb, *arguments, cwd=tmp_path)).replace("\r\n", "\n").split("\n")
    rule = [line for line in lines if line.startswith("──")]
    assert rule
    start = lines.index(rule[0])
    for line in lines[start - 1 :]:
        if str(tmp_path.parent) not in line:
            assert len(line) <= columns


def program(*arguments, cwd, **variables):
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**environment, **variables},
        check=False,
    )


def test_a_pipe_gets_whole_names_one_line_a_row_and_no_colours(files, tmp_path):
    done = program("plan", files.model, "-d", files.calibration, "--per-channel", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    rows = [line for line in done.stdout.splitlines() if line.startswith("point_conv_out ")]
    (row,) = rows
    assert row.rstrip().endswith("activation made by Conv '/point/Conv'; activation read by Add '/residual/Add'")


def test_a_pipe_that_cannot_take_every_letter(files, tmp_path):
    done = program("plan", files.model, cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert "point_conv_out" in done.stdout


def test_a_reader_that_leaves_early_is_no_error(files, tmp_path):
    with subprocess.Popen(
        [*PROGRAM, "plan", str(files.model), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    ) as child:
        child.stdout.close()
        said = child.stderr.read().decode()
    assert "Traceback" not in said


def test_json_in_a_pipe(files, tmp_path):
    done = program("compare", files.model, files.int8, "-d", files.evaluation, "--json", cwd=tmp_path)
    assert done.stderr == ""
    assert json.loads(done.stdout)["samples"] == 100


def test_errors_of_the_program(tmp_path):
    done = program("quantize", "no.onnx", "-d", "no.npz", "-o", "out.onnx", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: model file 'no.onnx' does not exist: check the path\n"
    assert list(tmp_path.iterdir()) == []
    done = program("quantise", cwd=tmp_path)
    assert done.returncode == 2
    assert "No such command 'quantise'" in done.stderr


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_without_typer_or_rich_the_program_says_what_to_install(tmp_path, module):
    script = f"import sys; sys.modules[{module!r}] = None; from quantlab.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: the command line needs {module}: pip install 'quantlab-onnx[cli]'\n"


def test_version(run):
    assert run("--version").stdout == f"quantlab {__version__}\n"


def test_help_lists_every_verb(run):
    out = run("--help").stdout
    for verb in VERBS:
        assert re.search(rf"\b{verb}\b", out)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_explains_every_option(run, verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    out = run(verb, "--help").stdout
    assert "Usage: quantlab" in out or f" {verb} " in out
    options = re.findall(r"│\s+\*?\s*(--[a-z0-9-]+)\s+(.*)│", out)
    assert options
    for name, rest in options:
        assert re.search(r"[A-Za-z]+ [a-z]+", rest), f"{name} has no help"


def test_help_of_compare_says_which_way_is_better(run):
    assert "higher means less error" in " ".join(run("compare", "--help").stdout.split())
