"""A recurrence feeds outputs of a model back to its inputs: h and c of an LSTM, the caches of a streaming model.

    state_0 = zeros, or what the first sample brings          (y_t, state_{t+1}) = model(x_t, state_t)

The samples are steps of one sequence, in their order. A sample that brings the state itself begins a new sequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import onnx

from quantlab.backend import Array, Backend, Batch
from quantlab.data import InputSpec, Signature
from quantlab.errors import OptionError, nearest

State = Mapping[str, str]
"""Output to the input that it becomes."""

NO_STATE: State = MappingProxyType({})


@dataclass
class Recurrence:
    """Which outputs are fed back, and what they held last.

    Attributes:
        pairs: Output to input.
        signature: All inputs of the model.
        held: State input to the array for the next sample; empty before the first.
    """

    pairs: State
    signature: Signature | None = None
    held: dict[str, Array] = field(default_factory=dict)

    @classmethod
    def of(cls, model: onnx.ModelProto, pairs: State, backend: Backend) -> Recurrence:
        """Return the recurrence of a model before its first sample.

        Args:
            model: The model.
            pairs: Output to input; none for a model that is fed with samples alone.
            backend: Knows the model's inputs.

        Raises:
            OptionError: A name is none of the model's; the text gives the nearest.
        """
        if not pairs:
            return cls(pairs)
        check_state(pairs)
        signature = backend.signature(model)
        made = [name for node in model.graph.node for name in node.output if name]
        for output, given in pairs.items():
            if output not in made:
                raise OptionError(f"state output {output!r} is no tensor that the model makes{nearest(output, made)}")
            if given not in signature.names:
                raise OptionError(
                    f"state input {given!r} is not an input of the model{nearest(given, signature.names)} "
                    f"(allowed: {signature.listed})"
                )
        return cls(pairs, signature)

    @property
    def outputs(self) -> list[str]:
        """The tensors that are fed back."""
        return list(self.pairs)

    def fed(self, batch: Batch) -> Batch:
        """Return a sample with the state in it: its own, else what was held, else zeros."""
        if self.signature is None:
            return batch
        start = {
            name: self._zeros(self.signature[name], batch) for name in self.pairs.values() if name not in self.held
        }
        return {**start, **self.held, **batch}

    def keep(self, values: Mapping[str, Array]) -> None:
        """Hold the outputs of a sample for the next one.

        Args:
            values: Tensor to value, with all that is fed back among them.
        """
        self.held = {given: values[output] for output, given in self.pairs.items()}

    def _zeros(self, spec: InputSpec, batch: Batch) -> Array:
        """Make the first state: an open size is that of the same name in the sample, else the number of its rows."""
        assert self.signature is not None
        sizes = {
            dim: size
            for other in self.signature
            if other.name in batch
            for dim, size in zip(other.shape, np.shape(batch[other.name]), strict=False)
            if isinstance(dim, str)
        }
        rows = self.signature.with_optional(self.pairs.values()).samples_in(batch)
        shape = [dim if isinstance(dim, int) else sizes.get(dim or "", rows) for dim in spec.shape]
        return np.zeros(shape, spec.dtype)


def check_state(pairs: State) -> None:
    """Refuse pairs that feed two outputs to one input.

    Raises:
        OptionError: Names the input and both outputs.
    """
    sources: dict[str, str] = {}
    for output, given in pairs.items():
        if given in sources:
            raise OptionError(f"state input {given!r} gets two outputs, {sources[given]!r} and {output!r}: keep one")
        sources[given] = output
