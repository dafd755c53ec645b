"""Onnxruntime's own rules on the command line: the graph left as it is, the data read twice."""

from dataclasses import replace

import numpy as np

import quantlab
from quantlab.demo import digits, float_model


def test_the_file_is_that_of_an_engine_like_onnxruntime(run, files, tmp_path):
    options = ("--calibrate", "onnxruntime_percentile", "--percent", "99.9", "--unoptimized", "--threads", "0")
    shown = run("quantize", files.model, "--data", files.calibration, "-o", "out.onnx", *options)
    assert "ranges   onnxruntime_percentile of 200 samples in " in shown.stdout
    recipe = quantlab.Recipe(calibrate="onnxruntime_percentile", calibrate_options={"percentile": 99.9})
    images = [{"image": image[np.newaxis]} for image in digits().train_images[:200]]
    like = replace(quantlab.Engine.like_onnxruntime(), workers=1)
    wanted = quantlab.quantize(quantlab.load(float_model()), images, recipe, engine=like)
    assert (tmp_path / "out.onnx").read_bytes() == wanted.model.SerializeToString()


def test_both_passes_have_a_checkpoint(run, files, tmp_path):
    for _ in range(2):
        run("quantize", files.model, "--data", files.calibration, "-o", "out.onnx", "--checkpoint", "seen.npz",
            "--calibrate", "onnxruntime_entropy")  # fmt: skip
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out.onnx", "seen.npz", "seen.npz.second"]
