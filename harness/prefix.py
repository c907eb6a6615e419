"""One pass of a frozen prefix over all images: activations at every cut, each from the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from harness.backbones.staged import StagedModel
from harness.features import BATCH, FeatureSource, as_rows, on_device, run_prefix
from harness.runtime import fixed_batches

Load = Callable[[int, int], torch.Tensor]  # rows start:stop of what the first section takes


def row_shapes(
    model: StagedModel, cuts: tuple[int, ...], autocast: torch.dtype | None = None
) -> dict[int, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and dtype of one row at every cut, from a forward pass of a black image."""
    device = next(model.parts.parameters()).device
    size = model.preprocess.size
    x = torch.zeros((1, 3, size, size), dtype=torch.uint8, device=device)
    x = x.contiguous(memory_format=torch.channels_last)
    model.eval()
    found, last = {}, 0
    for cut in sorted(set(cuts)):
        if cut:
            with (
                torch.no_grad(),
                torch.autocast(device.type, dtype=autocast, enabled=autocast is not None),
            ):
                x = model.section(last, cut)(x)
        found[cut] = (tuple(as_rows(x).shape[1:]), x.dtype)
        last = cut
    return found


def probe(source: FeatureSource, rows: torch.Tensor, device: torch.device) -> tuple[float, float]:
    """Two means of the activations of at most a batch of ``rows`` (int64 ``[n]``), in float64.

    The mean size, and the same with row i weighted by i + 1. They don't depend on a seed: another
    preprocessing, other weights or another order of the rows show in them as in few figures.
    """
    first = rows[:BATCH]
    sizes = source.batch(first, device).detach().cpu().double().abs().flatten(1).mean(1)
    weights = torch.arange(1, len(first) + 1, dtype=torch.float64)
    return float(sizes.mean()), float((sizes * weights).sum() / weights.sum())


def compute_prefix(
    model: StagedModel,
    start: int,
    stores: Mapping[int, torch.Tensor],
    load: Load,
    *,
    device: torch.device,
    autocast: torch.dtype | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Fills ``stores`` (cut -> rows ``[n, ...]``) in one pass over what lies at cut ``start``.

    ``load(a, b)`` gives rows ``a:b`` at ``start`` as the network takes them: uint8 images at cut 0,
    activations at a deeper one. ``autocast`` runs the prefix, and keeps its activations, in that
    dtype. ``progress`` is told how many rows were done.
    """
    ordered = sorted(stores)
    count = len(stores[ordered[0]])
    sections = [
        (cut, model.section(last, cut) if cut else None)
        for last, cut in zip([start, *ordered], ordered, strict=False)
    ]
    with fixed_batches("the pass of the frozen prefix", BATCH):
        for begin, rows in _batches(count, load):
            size = len(rows)
            x = on_device(rows, device)
            for cut, section in sections:
                x = x if section is None else run_prefix(section, x, autocast)
                stores[cut][begin : begin + size].copy_(as_rows(x[:size]))
            progress(size)
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # else its seconds would count to what comes next


def _batches(count: int, load: Load) -> Iterator[tuple[int, torch.Tensor]]:
    """Batches of rows, the next one loaded while this one is computed."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead: Future[torch.Tensor] | None = None
        for start in range(0, count, BATCH):
            rows = (ahead or pool.submit(load, start, min(start + BATCH, count))).result()
            following = start + BATCH
            ahead = pool.submit(load, following, min(following + BATCH, count)) if following < count else None
            yield start, rows
