"""The machine a run happens on: device, threads, determinism, versions."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
import traceback
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from harness.errors import HarnessError, UsageError

PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "pillow", "simplejpeg")
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h


class OutOfMemory(HarnessError):
    """A device's memory is too small for what was asked of it."""


def let_go(error: torch.OutOfMemoryError) -> None:
    """Frees what the computation that ended in ``error`` held, by way of the frames that it passed."""
    traceback.clear_frames(error.__traceback__)
    error.__traceback__ = None
    gc.collect()  # a graph of gradients may be a circle
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@contextlib.contextmanager
def fixed_batches(what: str, rows: int) -> Iterator[None]:
    """Names ``what`` runs out of memory here, in batches of ``rows``, which must not get smaller."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        let_go(error)
        raise OutOfMemory(
            f"out of memory in {what}: its batches of {rows} images are part of what makes results "
            "repeatable and don't get smaller; keep activations off the device (--cache-budget 0), use "
            "--precision bf16 or a device with more memory"
        ) from None


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA, then MPS, then CPU; anything else is torch's name of a device that is there."""
    if name.split(":")[0] not in ("auto", "cpu", "cuda", "mps"):
        raise UsageError(f"unknown device '{name}' (there are: auto, cpu, cuda, cuda:N, mps)")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"unknown device '{name}' (there are: auto, cpu, cuda, cuda:N, mps)") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device '{name}' was asked for but torch {torch.__version__} finds no CUDA device")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"device '{name}' was asked for but there are {torch.cuda.device_count()} CUDA devices"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device 'mps' was asked for but there is none here")
    return device


def configure(threads: int, precision: str, deterministic: bool) -> None:
    """Sets threads and numeric flags for this process.

    Strict deterministic algorithms are the default; an operation without one then fails by name.
    """
    # Read by cuBLAS when CUDA starts; without it its sums may differ between runs.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    # torch.use_deterministic_algorithms, but for the import of torch's compiler, of which nothing is used.
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    # Filling new memory with NaN guards against reads of it but costs a pass over every tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    _keep_freed_memory()


def seed_generators(seed: int, device: torch.device) -> None:
    """Seeds the default generators of the CPU and of ``device``: initialisation, dropout, stochastic depth.

    ``torch.manual_seed`` also formats a stack trace for every kind of device that isn't there, which takes
    75 microseconds a step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def _keep_freed_memory() -> None:
    """Tells glibc to reuse large blocks instead of giving them back to the kernel at every free.

    A training step frees its gradients, half a gigabyte with VGG16's classifier; faulting them in
    again was a quarter of the processor time of a step. Other C libraries have no such call.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def give_back_freed_memory() -> None:
    """Gives what is free inside the process back to the system, so that it counts as free again."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def preserved() -> Iterator[None]:
    """Puts back afterwards what :func:`configure` and training change of this process's torch."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    filling = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    flags = cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    with torch.random.fork_rng():
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic)
            torch.utils.deterministic.fill_uninitialized_memory = filling  # type: ignore[attr-defined]
            cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = flags


def forget_peak_memory(device: torch.device) -> None:
    """From now on :func:`peak_memory` counts, as far as the system lets a process start again."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): resets VmHWM


def peak_memory(device: torch.device) -> tuple[str, int] | None:
    """The most memory that was in use, in bytes, and of what: ``device`` (what torch had allocated on the
    GPU) or ``process`` (all that the process had in memory). ``None`` where it can't be told.
    """
    if device.type == "cuda":
        return "device", torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if device.type == "cpu" and line.startswith("VmHWM:"):
                return "process", 1024 * int(line.split()[1])
    return None


def default_threads() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def package_version(name: str) -> str | None:
    """Version of an installed package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def environment(device: torch.device) -> dict[str, object]:
    """What a record says of where it was made."""
    return {
        "harness": package_version("transfer-harness"),
        "python": platform.python_version(),
        **{name: package_version(name) for name in PACKAGES},
        "platform": f"{platform.system()}-{platform.machine()}",
        "device": str(device),
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
    }


def conditions(device: torch.device) -> str:
    """What the bits of a result depend on beside its spec, in words."""
    return (
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {device.type} ({device_name(device)})"
    )


def device_name(device: torch.device) -> str:
    """What people call the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
