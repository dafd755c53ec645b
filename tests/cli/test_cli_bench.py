"""`quantlab bench` and `quantlab saturation`: tables, Markdown, JSON, and what they refuse."""

import json

QUICK = ("--runs", 2, "--rounds", 2, "--warm-up", 0)


def test_models_side_by_side(run, files):
    shown = run("bench", files.model, files.int8, *QUICK, "--batch-size", 4).stdout.splitlines()
    assert " ".join(shown[0].split()) == "model MB parameters mean ms median ms p95 ms std ms times as fast quartiles"
    assert [line.split()[0] for line in shown[2:4]] == [str(files.model), str(files.int8)]
    assert shown[2].split()[-4:] == ["1.000", "1.000", "to", "1.000"]
    assert shown[-2] == "rounds: 2, of 2 runs after 0 to warm up, in turns; random inputs, seed 0"
    assert "1 thread, CPUExecutionProvider" in shown[-1]
    assert "onnxruntime 1.31.1" in shown[-1]


def test_a_line_for_each_run(run, files):
    shown = run("bench", files.model, *QUICK, "--each-run").stdout.splitlines()
    assert shown[0] == str(files.model)
    assert [line.split(":")[0] for line in shown[1:6]] == ["run 1", "run 2", "run 3", "run 4", "Avg"]
    assert all(line.endswith(" ms") for line in shown[1:6])


def test_throughput_is_a_column_where_there_is_data(run, files):
    given = ("bench", files.model, *QUICK, "--data", files.evaluation, "--max-samples", 20)
    assert "samples/s" in run(*given).stdout.splitlines()[0]
    plain = json.loads(run(*given, "--json").stdout)
    assert plain["data"] == 20
    assert plain["models"][0]["samples_per_second"] > 0


def test_markdown(run, files):
    shown = run("bench", files.model, *QUICK, "--markdown", "--shape", "N=2").stdout.splitlines()
    assert shown[0] == (
        "| model | MB | parameters | mean ms | median ms | p95 ms | std ms | times as fast | quartiles | samples/s |"
    )
    assert shown[2].startswith(f"| {files.model} | 0.2")


def test_what_bench_refuses(run, files):
    def words(*options):
        return run("bench", files.model, *options, code=2).stderr.strip()

    assert words("--shape", "8") == (
        "error: --shape '8' is no shape: give N=8, or an input's own as in image=1x3x224x224"
    )
    assert words("--shape", "N=2", "--shape", "N=3") == "error: --shape names 'N' twice: keep one"
    assert words("--shape", "image=1x2x8x8").startswith("error: input 'image' wants (N, 1, 8, 8), got (1, 2, 8, 8)")
    assert words("--json", "--markdown") == "error: --markdown and --json exclude each other: choose one"
    assert words("--provider", "cuda").startswith("error: execution provider 'cuda' is not in this onnxruntime")


def test_saturation_by_node_with_advice(run, files):
    shown = run("saturation", files.per_channel, "--data", files.evaluation).stdout.splitlines()
    assert shown[0] == "sums in pairs of 16 bits (8 samples)"
    assert shown[3].split()[0] == "/stem/Conv"
    assert "/depth/Conv: depthwise: onnxruntime adds these products one by one, in 32 bits" in shown
    plain = json.loads(run("saturation", files.per_channel, "--data", files.evaluation, "--json").stdout)
    assert plain["samples"] == 8
    assert plain["saturates"] is True


def test_saturation_of_a_float_model_is_refused(run, files):
    error = run("saturation", files.model, "--data", files.evaluation, code=2).stderr
    assert error.startswith("error: no Conv, Gemm or MatMul of the model works on integers with constant weights")
