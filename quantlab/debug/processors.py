"""Which 8-bit types suit the processor at hand, in words."""

from __future__ import annotations

from quantlab.backend.hardware import Processor


def advice(processor: Processor, saturates: bool | None = None) -> list[str]:
    """Say what to quantize to on a processor, and why.

    Args:
        processor: The processor.
        saturates: Whether a model's sums were found to saturate without VNNI; None where none was looked at.

    Returns:
        Sentences.
    """
    flags = processor.integer_flags
    if processor.saturates is None or (flags is None and processor.is_x86):
        return [
            "The system does not tell which instructions this processor has: if it is an x86 one without VNNI, "
            "quantize with --reduce-range (preset cpu-x86-avx2)."
        ]
    if not processor.is_x86:
        return [f"{processor.architecture}: sums of int8 products are exact. Preset cpu-arm suits it."]
    if not processor.saturates:
        vnni = ", ".join(flag for flag in flags or () if "vnni" in flag or "amx" in flag)
        lines = [
            f"This processor has {vnni}: it sums products in 32 bits and nothing saturates. Preset cpu-x86-vnni "
            "suits it, which is the default; --reduce-range would only cost accuracy."
        ]
        return [*lines, *(_other(saturates))]
    return [
        "This processor has no VNNI: it sums uint8 by int8 products in pairs of 16 bits, which saturate. "
        "Quantize with --reduce-range (preset cpu-x86-avx2), which gives weights 7 bits; or, where that costs too much "
        "accuracy, with --weight-type uint8: those are summed exactly, and slower.",
        *([] if saturates is None or saturates else ["On these samples nothing saturates: 8-bit weights do as well."]),
    ]


def _other(saturates: bool | None) -> list[str]:
    if not saturates:
        return []
    return [
        "On a processor without VNNI this model would saturate as shown: quantize for such a one with reduce_range or "
        "with uint8 weights."
    ]
