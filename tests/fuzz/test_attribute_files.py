"""Attribute files and tables: read as pandas reads them, or refused in one line that names file and line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.attribute_files import BITS, COLUMNS, THERE, Written, broken, rows_of, whole
from fuzz.profile import profile
from fuzz.told import counted, tell
from harness.contracts import SampleTable
from harness.data.attributes import read_pairs
from harness.data.celeba import CelebA
from harness.data.table import Table
from harness.errors import DataError, UnknownName

Rows = list[list[str]]
SPLITS = {"train": "train", "val": "val", "Valid": "val", "TEST": "test", "validation": "val", "test": "test"}
WORDS = st.sampled_from(["a", "b", "10", "9", "-1", "1", "two words", "ü", "x,y", 'qu"ote', "NA"])
MESSAGE = re.compile(r"(, line \d+)?: ")


def ones(rows: Rows, column: int) -> list[int]:
    return [int(row[column] == "1") for row in rows]


def celeba_equals(table: SampleTable, header: list[str], rows: Rows) -> None:
    """All that a table holds, against rows of strings: who is there, who isn't, and what they are."""
    assert len({row[0] for row in rows}) == len(rows)
    assert all(v in ("-1", "0", "1") for row in rows for v in row[1:])
    assert table.missing == tuple(row[0] for row in rows if row[0] not in THERE)
    there = [row for row in rows if row[0] in THERE]
    assert table.ids == tuple(row[0] for row in there)
    assert tuple(table.attributes) == tuple(header)
    for column, name in enumerate(header, start=1):
        assert table.attributes[name].tolist() == ones(there, column)
    assert table.labels.tolist() == ones(there, 1 + header.index(str(table.target)))


def table_equals(table: SampleTable, header: list[str], rows: Rows) -> None:
    """The same for a table of paths and labels; cells count without the blanks around them."""
    header = [name.strip() for name in header]
    columns = {name: [row[i].strip() for row in rows] for i, name in enumerate(header)}
    assert len(columns) == len(header)
    path, label = [str(PurePosixPath(p)) for p in columns["path"]], columns["label"]
    assert len(set(path)) == len(path)
    assert table.missing == tuple(p for p in path if p not in THERE)
    keep = [i for i, p in enumerate(path) if p in THERE]
    assert table.ids == tuple(path[i] for i in keep)
    assert [table.class_names[i] for i in table.labels] == [label[i] for i in keep]
    if "group" in columns:
        assert table.groups == tuple(columns["group"][i] for i in keep)
    if "split" in columns:
        assert table.official == tuple(SPLITS[columns["split"][i]] for i in keep)
    for name, values in columns.items():
        if name in table.attributes:
            assert set(values) <= {"0", "1"} or set(values) <= {"-1", "1"}
            assert table.attributes[name].tolist() == [int(values[i] == "1") for i in keep]


def names_file_and_line(error: DataError, file: Path) -> None:
    text = str(error)
    assert "\n" not in text
    assert "\r" not in text
    _, found, said = text.partition(file.name)
    assert found, text
    assert MESSAGE.match(said), text


def read_celeba(root: Path) -> SampleTable:
    return CelebA().read(root, target="Smiling", missing="skip")


def celeba(root: Path, name: str, found: Written) -> str:
    """A file of attributes: what came of reading it."""
    (root / name).write_bytes(found.content)
    try:
        table = read_celeba(root / name)
    except DataError as error:
        if "no images left" in str(error):  # it names the folder; what is absent is the rows' to say
            return "none there"
        assert found.rows is None, error  # noqa: PT017
        names_file_and_line(error, root / name)
        return "refused"
    except UnknownName as error:
        assert found.rows is None, error  # noqa: PT017
        return "another target"
    blanks = name.endswith(".txt")
    header, *rows = rows_of(found.content, " " if blanks else ",", skipped=int(blanks))
    if blanks:
        assert int(found.content.decode("utf-8-sig").split("\n")[0]) == len(rows)
    celeba_equals(table, header if blanks else [name.strip() for name in header[1:]], rows)
    if found.rows is not None:
        celeba_equals(table, list(found.rows[0][1:]), [list(row) for row in found.rows[1:]])
    return "read"


def tabled(root: Path, name: str, found: Written) -> str:
    """A table of paths and labels: what came of reading it."""
    (root / name).write_bytes(found.content)
    try:
        table = Table().read(root / name, target=None, missing="skip")
    except DataError as error:
        if "no images left" in str(error) or "only one class" in str(error):
            return "too little"
        assert found.rows is None, error  # noqa: PT017
        names_file_and_line(error, root / name)
        return "refused"
    rows = rows_of(found.content, "\t" if name.endswith("tsv") else ",")
    table_equals(table, rows[0], rows[1:])
    if found.rows is not None:
        table_equals(table, list(found.rows[0]), [list(row) for row in found.rows[1:]])
    return "read"


def paired(root: Path, name: str, found: Written) -> str:
    """A file of names and values: what came of reading it."""
    (root / name).write_bytes(found.content)
    asked = [row[0] for row in found.rows[1:]] if found.rows else list(THERE[:1])
    try:
        values = read_pairs(root / name, asked)
    except DataError as error:
        assert found.rows is None, error  # noqa: PT017
        names_file_and_line(error, root / name)
        return "refused"
    blanks = name.endswith(".txt")
    rows = rows_of(found.content, " " if blanks else ",")[not blanks :]
    assert {len(row) for row in rows} == {2}
    assert len({row[0] for row in rows}) == len(rows)
    assert values == tuple({row[0]: row[1].strip() for row in rows}[name] for name in asked)
    if found.rows is not None:
        assert values == tuple(row[1] for row in found.rows[1:])
    return "read"


Reader = Callable[[Path, str, Written], str]
ATTRIBUTES = st.lists(st.sampled_from([c for c in COLUMNS if c != "Smiling"]), max_size=3, unique=True)
CELLS = dict.fromkeys(COLUMNS, BITS) | {"value": st.integers(0, 10**6), "partition": st.integers(0, 2)}
TABLED = {
    "label": WORDS,
    "group": WORDS,
    "split": st.sampled_from(list(SPLITS)),
    "glasses": st.sampled_from([0, 1]),
    "hat": st.sampled_from([-1, 1]),
    "NA": WORDS,
}
LISTED = ATTRIBUTES.flatmap(lambda names: st.permutations(["Smiling", *names]))
OPTIONAL = st.lists(st.sampled_from(["group", "split", "glasses", "hat", "NA"]), max_size=3, unique=True)


def attributes(separator: str, first: str = "image_id") -> st.SearchStrategy[Written]:
    return LISTED.flatmap(lambda names: whole((first, *names), CELLS, separator))


def tables(separator: str) -> st.SearchStrategy[Written]:
    return OPTIONAL.flatmap(lambda names: whole(("path", "label", *names), TABLED, separator))


KINDS: dict[str, tuple[Reader, st.SearchStrategy[Written]]] = {
    "list_attr_celeba.txt": (celeba, attributes(" ")),
    "list_attr_celeba.csv": (celeba, attributes(",")),
    "CelebA30k.csv": (celeba, attributes(",", "filename")),
    "identity_CelebA.txt": (paired, whole(("name", "value"), CELLS, "")),
    "list_eval_partition.csv": (paired, whole(("image_id", "partition"), CELLS, ",")),
    "list.csv": (tabled, tables(",")),
    "list.tsv": (tabled, tables("\t")),
}


def tried(tmp_path: Path, name: str, count: int) -> Counter[str]:
    """Half of the files as programs write them, half with something changed."""
    read, files = KINDS[name]
    part = list(KINDS).index(name)  # other files for each
    root = tmp_path / "data"
    (root / "img_align_celeba").mkdir(parents=True)
    for file in THERE:
        (root / "img_align_celeba" / file).touch()
        (root / file).touch()
    found: Counter[str] = Counter()

    @profile(count // 2, part)
    @given(files)
    def sound(file: Written) -> None:
        found[f"whole and {read(root, name, file)}"] += 1

    @profile(count - count // 2, part)
    @given(broken(files))
    def changed(file: Written) -> None:
        found[f"changed and {read(root, name, file)}"] += 1

    sound()
    changed()
    tell(found.total(), f"files {name}", counted(found))
    return found


@pytest.mark.parametrize("name", KINDS)
def test_a_list_is_read_as_pandas_reads_it_or_refused_by_line(tmp_path: Path, name: str) -> None:
    found = tried(tmp_path, name, 20)
    assert found["whole and read"] > 3


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("name", KINDS)
def test_many_lists_are_read_as_pandas_reads_them_or_refused(tmp_path: Path, name: str) -> None:
    found = tried(tmp_path, name, 600)
    assert found["whole and read"] > 100
    assert min(found["changed and read"], found["changed and refused"]) > 10
