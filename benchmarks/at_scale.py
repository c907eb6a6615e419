"""What very many images would take: bytes of their features, of their table, seconds to list them.

``python -m benchmarks.at_scale --images 1e8`` prints the tables of ``docs/scale.md``. Bytes are counted; the
rates of shards and Parquet files are CPU time, measured on images of noise.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
from PIL import Image

from harness.contracts import DataCard, SampleTable
from harness.data.image_file import read_file
from harness.data.members import tar_member
from harness.data.shards import WebDataset
from harness.placement import show_bytes
from harness.plugins import load_backbone
from harness.prefix import row_shapes

NETWORKS = ("vgg16", "resnet18", "resnet50")
SHARD = 10_000  # samples, about 1 GB of photographs


def feature_rows(images: int) -> Iterator[tuple[str, str, str, int, int]]:
    """Network, stages before the cut, shape, bytes of an image's features in fp32, of all in bf16."""
    for name in NETWORKS:
        model = load_backbone(name).build("none", 2, "own")
        size = model.preprocess.size
        yield name, "images, uint8", f"{size} x {size} x 3", size * size * 3, size * size * 3 * images
        cuts = tuple(range(1, len(model.stage_names)))
        for cut, (shape, dtype) in sorted(row_shapes(model, cuts, None).items()):
            nbytes = prod(shape) * dtype.itemsize
            stages = f"{model.stage_names[0]}..{model.stage_names[cut - 1]}"
            yield name, stages, " x ".join(map(str, shape)), nbytes, nbytes // 2 * images


def table_bytes(count: int = 100_000) -> float:
    """Bytes a sample of a table in memory: id, path, label."""
    tracemalloc.start()
    ids = tuple(f"train/{i // SHARD:05d}/{i:09d}.jpg" for i in range(count))
    paths = tuple(
        tar_member(f"shards/train-{i // SHARD:05d}.tar", 1536 * i, 100_000, ids[i]) for i in range(count)
    )
    table = SampleTable(ids, paths, np.zeros(count, dtype=np.int64), ("a", "b"), DataCard("", "", "", ""))
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return used / len(table)


def rates(folder: Path, count: int) -> Iterator[tuple[str, float]]:
    """CPU seconds a sample of a shard (and of a Parquet file, with pyarrow), by what is done."""
    shard = folder / "shard-000.tar"
    _write(shard, count)
    for what in ("listed anew", "listed from memory"):
        began = time.process_time()
        table = WebDataset().read(shard, target=None, missing="error")
        yield f"tar shard, {what}", (time.process_time() - began) / count
    began = time.process_time()
    for path in table.paths:
        read_file(path)
    yield "tar shard, bytes of an image read", (time.process_time() - began) / count
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return
    from harness.data.hf import HuggingFace

    rows = {"image": [read_file(path) for path in table.paths], "label": table.labels}
    pq.write_table(pa.table(rows), folder / "rows.parquet", row_group_size=100)
    began = time.process_time()
    table = HuggingFace().read(folder / "rows.parquet", target=None, missing="error")
    yield "Parquet, listed", (time.process_time() - began) / count
    for what, order in (
        ("in order", range(count)),
        ("at random", np.random.default_rng(0).permutation(count)),
    ):
        began = time.process_time()
        for i in order:
            read_file(table.paths[i])
        yield f"Parquet, bytes of an image read {what}", (time.process_time() - began) / count


def _write(shard: Path, count: int) -> None:
    """Images of noise: 12 kB each."""
    rng = np.random.default_rng(0)
    with tarfile.open(shard, "w") as archive:
        for i in range(count):
            stream = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (112, 112, 3), dtype=np.uint8)).save(
                stream, "JPEG", quality=85
            )
            for name, data in ((f"{i:06d}.jpg", stream.getvalue()), (f"{i:06d}.cls", b"%d" % (i % 2))):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=float, default=1e8)
    parser.add_argument("--samples", type=int, default=2000, help="of the shard that is read")
    given = parser.parse_args()
    images = int(given.images)
    heads = (
        "network",
        "before the cut",
        "shape",
        "an image, fp32 (images: 8 bits)",
        f"{images:,}, bf16",
        f"a shard of {SHARD:,}",
    )
    print(f"| {' | '.join(heads)} |")
    print("|---|---|---|---|---|---|")
    for name, stages, shape, nbytes, total in feature_rows(images):
        part = show_bytes(total * SHARD // images)
        print(f"| {name} | {stages} | {shape} | {show_bytes(nbytes)} | {show_bytes(total)} | {part} |")
    each = table_bytes()
    print(f"\ntable of samples in memory: {each:.0f} bytes each, {show_bytes(int(each * images))} for all\n")
    print(f"| of a file of {given.samples:,} samples, by CPU time | a second | {images:,} on one core |")
    print("|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for what, seconds in rates(Path(folder), given.samples):
            print(f"| {what} | {1 / seconds:,.0f} | {seconds * images / 3600:,.1f} h |")


if __name__ == "__main__":
    main()
