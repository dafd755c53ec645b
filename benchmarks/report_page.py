"""A report of a model with 1,000 nodes: how large it is, and how fast it is made and opened.

    python -m benchmarks.report_page [NODES]

Chromium has to be installed. The page is opened five times; the median counts, from the start of the navigation to the
end of the load event, when table and graph answer.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import onnx

import quantlab
from benchmarks.pages import conditions
from benchmarks.real_models.graph import GraphWriter

OPENINGS = 5
CHANNELS = 16


def residual_chain(nodes: int, seed: int = 0) -> onnx.ModelProto:
    """Build residual blocks of MatMul, Add, Relu, MatMul and Add with random weights, `nodes` nodes in all."""
    net, random, value = GraphWriter(), np.random.default_rng(seed), "x"
    for block in range(nodes // 5):
        weights = [
            net.weight(f"block{block}.{name}", (random.standard_normal((CHANNELS, CHANNELS)) * 0.2).astype(np.float32))
            for name in ("w1", "w2")
        ]
        bias = net.weight(f"block{block}.b", random.standard_normal(CHANNELS).astype(np.float32) * np.float32(0.1))
        inner = net.node("MatMul", [value, weights[0]], f"block{block}.matmul1")
        inner = net.node("Relu", [net.node("Add", [inner, bias], f"block{block}.bias")], f"block{block}.relu")
        inner = net.node("MatMul", [inner, weights[1]], f"block{block}.matmul2")
        value = net.node("Add", [inner, value], f"block{block}.add")
    given, made = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", CHANNELS]) for name in ("x", value)
    )
    return quantlab.load(net.model("chain", [given], [made]))


def opening_ms(path: Path) -> list[float]:
    """Open a page several times in headless Chromium and return the milliseconds that each took."""
    from playwright.sync_api import sync_playwright

    took = "performance.timing.loadEventEnd - performance.timing.navigationStart"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        found = []
        for _ in range(OPENINGS):
            tab = browser.new_page(viewport={"width": 1400, "height": 900})
            tab.goto(path.as_uri())
            tab.wait_for_selector("html[data-ready]")
            found.append(float(tab.evaluate(took)))
            tab.close()
        browser.close()
    return found


def main(nodes: int) -> None:
    model = residual_chain(nodes)
    random = np.random.default_rng(1)
    samples = [{"x": random.standard_normal((4, CHANNELS)).astype(np.float32)} for _ in range(8)]
    quantized = quantlab.quantize(model, samples).model
    begin = perf_counter()
    page = quantlab.report(model, quantized, samples)
    made = perf_counter() - begin
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        page.save(path)
        opened = opening_ms(path)
    print(f"{len(model.graph.node):,} nodes, {len(samples)} batches: compared and written in {made:.1f} s")
    print(f"{len(page.html.encode()) / 1e6:.2f} MB; open after {statistics.median(opened):.0f} ms")
    print(conditions("python -m benchmarks.report_page"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
