"""Every real model through quantlab's preparation and quantization, and through those of onnxruntime.quantization.

    python -m benchmarks.robustness [-o docs/results.md]

The models are those of `benchmarks.real_models`: the cases with real samples, and further ones with odd graphs and
random inputs. Each is worked on in processes of its own, one for either tool (`work.py`), and what they report becomes
a section of a page (`section.py`). Memory is read from Linux's /proc.
"""
