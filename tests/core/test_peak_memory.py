"""The peak of memory in a record: what a cell took, not what another did before it."""

import hashlib
import mmap
import sys

import pytest
import torch

from harness.backbones.staged import tensor_digest
from harness.runtime import forget_peak_memory, peak_memory

CPU = torch.device("cpu")
MIB = 1 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells a process's peak on Linux only")
def test_the_peak_is_counted_anew():
    def peak():
        of, found = peak_memory(CPU)
        assert of == "process"
        return found

    forget_peak_memory(CPU)
    before = peak()
    with mmap.mmap(-1, 200 * MIB) as block:  # not from the heap, whose freed memory the process keeps
        for _ in range(200):
            block.write(b"x" * MIB)
        assert peak() - before >= 190 * MIB
    assert peak() - before >= 190 * MIB
    forget_peak_memory(CPU)
    assert peak() - before < 100 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells a process's peak on Linux only")
def test_a_digest_takes_no_copy():
    """The largest tensor of VGG16 has 392 MiB, and more than one process may take its digest at once."""
    large = {"weight": torch.ones(200 * MIB // 4), "empty": torch.ones(0), "step": torch.tensor(3.0)}
    whole = hashlib.sha256()
    for name, tensor in sorted(large.items()):
        whole.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode() + tensor.numpy().tobytes())
    forget_peak_memory(CPU)
    before = peak_memory(CPU)[1]
    assert tensor_digest(large.items()) == whole.hexdigest()
    assert peak_memory(CPU)[1] - before < 50 * MIB


def test_a_device_that_doesn_t_tell():
    assert peak_memory(torch.device("meta")) is None
