"""Small signatures and a stand-in for a tensor, shared by the tests of this folder."""

import numpy as np

from quantlab.data import InputSpec, Signature


def signature(**inputs):
    """Make a signature from `name=(dtype, *dims)`."""
    return Signature(
        inputs=tuple(InputSpec(name=name, dtype=np.dtype(dtype), shape=dims) for name, (dtype, *dims) in inputs.items())
    )


def vector(dims=("N", 3)):
    return signature(x=("float32", *dims))


def ramp(count, *dims):
    """Different samples: sample `i` is filled with `i + 1`."""
    return np.broadcast_to(
        np.arange(1, count + 1, dtype=np.float32).reshape(-1, *[1] * len(dims)), (count, *dims)
    ).copy()


class Tensor:
    """Behaves as a torch tensor does: `.numpy()` works after `.detach().cpu()` only."""

    def __init__(self, array, ready=False):
        self.array, self.ready = array, ready

    def detach(self):
        return self

    def cpu(self):
        return Tensor(self.array, ready=True)

    def numpy(self):
        if not self.ready:
            raise RuntimeError("still on the device")
        return self.array


class Reader:
    """A reader in onnxruntime's style, whose `__len__` and `set_range` raise as those of its base class do."""

    def __init__(self, items):
        self.all, self.left = items, iter(items)

    def get_next(self):
        return next(self.left, None)

    def __iter__(self):
        return self

    def __next__(self):
        item = self.get_next()
        if item is None:
            raise StopIteration
        return item

    def __len__(self):
        raise NotImplementedError


class Rewinding(Reader):
    def rewind(self):
        self.left = iter(self.all)


class Ranging(Reader):
    """A reader in the style of onnxruntime's strided calibration; it notes what was pulled from it."""

    def __init__(self, items):
        super().__init__(items)
        self.pulled, self.ranges = [], []

    def __len__(self):
        return len(self.all)

    def set_range(self, start_index, end_index):
        self.ranges.append((start_index, end_index))
        self.left = iter(range(start_index, end_index))

    def get_next(self):
        index = next(self.left, None)
        if index is None:
            return None
        self.pulled.append(index)
        return self.all[index]
