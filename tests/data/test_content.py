from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cache_dir import cache_dir
from harness.contracts import SampleTable
from harness.data import content
from harness.data.content import content_digests, file_digests
from harness.errors import DataError

from .conftest import write_images

OLD = (1_000_000_000, 1_000_000_000)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def table(tmp_path: Path, make_table: Callable[..., SampleTable]) -> SampleTable:
    drawn = make_table([80, 70])
    write_images(tmp_path / "images", drawn.ids)
    return replace(drawn, paths=tuple(f"{tmp_path}/images/{i}" for i in drawn.ids))


def rewrite(path: str, data: bytes) -> None:
    Path(path).write_bytes(data)
    os.utime(path, OLD)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read, as they are."""
    seen: list[str] = []
    original = content._hash_file
    monkeypatch.setattr(content, "_hash_file", lambda path: seen.append(path) or original(path))
    return seen


def test_cache_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "here"))
    assert cache_dir() == tmp_path / "here"
    monkeypatch.delenv("HARNESS_CACHE")
    assert cache_dir().name == "transfer-harness"


def test_files_are_read_once(table: SampleTable, pool: ThreadPoolExecutor, reads: list[str]) -> None:
    first = file_digests(table.paths, pool)
    assert first == [hashlib.blake2b(Path(p).read_bytes(), digest_size=16).hexdigest() for p in table.paths]
    assert sorted(reads) == sorted(table.paths)
    reads.clear()
    assert file_digests(table.paths[::-1], pool) == first[::-1]
    assert reads == []
    assert file_digests(table.paths, pool, reread=True) == first
    assert len(reads) == len(table)


def test_digest_covers_ids_labels_order_and_content(table: SampleTable, pool: ThreadPoolExecutor) -> None:
    digest = content_digests(table, pool).samples
    assert digest == content_digests(table, pool, reread=True).samples
    others = {
        content_digests(replace(table, labels=1 - table.labels), pool).samples,
        content_digests(replace(table, ids=("x", *table.ids[1:])), pool).samples,
        content_digests(table.take(table.labels.argsort()), pool).samples,
    }
    rewrite(table.paths[3], b"another picture")
    others.add(content_digests(table, pool).samples)
    assert len(others | {digest}) == 5


def test_a_change_that_keeps_size_and_time(table: SampleTable, pool: ThreadPoolExecutor) -> None:
    digest = content_digests(table, pool).samples
    data = bytearray(Path(table.paths[0]).read_bytes())
    data[-3] ^= 1
    rewrite(table.paths[0], bytes(data))
    changed = content_digests(table, pool).samples  # the time of its last change of any kind differs
    assert changed == content_digests(table, pool, reread=True).samples != digest


def test_young_files_are_read_again(table: SampleTable, pool: ThreadPoolExecutor, reads: list[str]) -> None:
    os.utime(table.paths[0])
    file_digests(table.paths, pool)
    reads.clear()
    file_digests(table.paths, pool)
    assert reads == [table.paths[0]]


@pytest.mark.parametrize("text", ["", "[1, 2", "[]", '{"000001.jpg": 3}', "null"])
def test_a_damaged_memory_is_forgotten(table: SampleTable, pool: ThreadPoolExecutor, text: str) -> None:
    digest = content_digests(table, pool).samples
    (memory,) = (cache_dir() / "digests").iterdir()
    memory.write_text(text)
    assert content_digests(table, pool).samples == digest
    assert memory.read_text() != text


def test_without_a_writable_cache(
    table: SampleTable, pool: ThreadPoolExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = content_digests(table, pool).samples
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "file"))
    assert content_digests(table, pool).samples == digest


def test_an_absent_file_is_named(table: SampleTable, pool: ThreadPoolExecutor) -> None:
    Path(table.paths[7]).unlink()
    with pytest.raises(DataError, match=r"000007.jpg: can't be read"):
        content_digests(table, pool)


def test_warm_digests_are_fast(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    paths = [f"{tmp_path}/{i:06d}.jpg" for i in range(6000)]
    for number, path in enumerate(paths):
        rewrite(path, b"%06d" % number)
    cold = file_digests(paths, pool)
    assert len(set(cold)) == 6000
    start = time.process_time()
    assert file_digests(paths, pool) == cold
    assert time.process_time() - start < 1
