"""Names from outside in every format: they show as they are and do nothing."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from harness.leakage import Leakage, NearCopy, belonging, write_leakage
from reports.records import load_records
from reports.render import FORMATS, write_report
from reports.summary import build_report

from .fake_runs import fake_run

NAMES = (
    "<script>alert(1)</script>",
    "![x](javascript:alert(1))",
    "](javascript:alert(1))",
    "[x]: javascript:alert(1)",
    "`code` ``` ~~~",
    "a|b|c",
    "two\nlines\r\n# heading",
    "\u202egnp.exe\u2066\u200b",
    "- item: {a: [b, *c], &d !!python/object:os.system}",
    "---\nlicense: mit\n---",
    "'single' \"double\" \\ backslash #comment: %x",
    "{{ 7*7 }}{% raw %}",
    "</style></svg><img src=x onerror=alert(1)>",
    "\x00\x1b[31mred\ud800",
    "yes",
    "1e3",
    "~",
)
DIGESTS = belonging({"data": "d" * 64, "split": "5" * 64})


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def hostile_run(folder: Path, evil: str, **changes: object) -> Path:
    shown = evil.replace("\ud800", "?")  # a file in UTF-8 can't hold it
    ids = [f"{i}{shown}" for i in range(150)]
    run = fake_run(
        folder,
        strategy=evil,
        name="run1",
        classes=(evil, f"{evil}2"),
        command=f"harness run --strategy '{evil}'",
        ids=ids,
        weights=evil,
        backbone=f"timm:{evil}",
        data={"name": evil, "target": evil, "group": evil},
        train={evil: evil},
        card={
            "title": evil,
            "description": evil,
            "labels": evil,
            "license": evil,
            "not_for": evil,
            "url": evil,
        },
        **changes,
    )
    with_attribute(run / "predictions.csv", shown)
    write_leakage(
        run,
        Leakage(DIGESTS, {ids[0]: (shown,)}, (ids[1],), {ids[2]: (NearCopy(shown, 1, 0.9, False),)}, shown),
    )
    return run


def with_attribute(file: Path, name: str) -> None:
    with file.open(encoding="utf-8", newline="") as stream:
        head, *rows = csv.reader(stream)
    with file.open("w", encoding="utf-8", newline="") as stream:
        out = csv.writer(stream, lineterminator="\n")
        out.writerow([*head, f"attr:{name}"])
        out.writerows([*row, i % 2] for i, row in enumerate(rows))


def written(folder: Path, evil: str) -> dict[str, str]:
    made = [hostile_run(folder, evil), fake_run(folder, strategy="full", name="bad", error=evil)]
    out = folder / "out"
    for path in write_report(build_report(load_records(made), title=evil), out, formats=FORMATS):
        assert path.is_file()
    return {p.name: p.read_text("utf-8") for p in out.iterdir() if p.is_file()}


@pytest.fixture(scope="module")
def tame_tags(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The elements of the page where every name is harmless."""
    return Tags(written(tmp_path_factory.mktemp("tame"), "tame")["index.html"]).tags


@pytest.mark.parametrize("evil", NAMES, ids=range(len(NAMES)))
def test_in_every_format(tmp_path: Path, tame_tags: list[str], evil: str) -> None:
    files = written(tmp_path, evil)
    assert files.keys() == {"index.html", "report.md", "report.json", "model-card.md"}
    for text in files.values():
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x00\x1b]", text)
    page = Tags(files["index.html"])
    assert page.tags.count("img") == 0
    assert all(not name.startswith("on") for name, _ in page.attributes)
    assert all(
        not re.match(r"\s*(javascript|data:text)", value or "", re.I)
        for name, value in page.attributes
        if name in ("href", "src", "xlink:href")
    )
    assert page.tags == tame_tags  # not one element more
    assert len(files["index.html"].split("Content-Security-Policy")) == 2
    for name in ("report.md", "model-card.md"):
        harmless_markdown(files[name])
    metadata(files["model-card.md"], evil)
    found = json.loads(files["report.json"])
    assert found["experiments"][0]["cells"][0]["run"] == "run1"


def harmless_markdown(text: str) -> None:
    """Outside code no tag, no link but the report's own, no heading or table bar from a name."""
    body = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    prose = re.sub(r"(?ms)^(`{3,})\w*\n.*?\n\1$", "", body)
    prose = re.sub(r"(?<![\\`])(`+)(?!`).*?(?<!`)\1(?!`)", "", prose)
    assert not re.search(r"<(?!/?(details|summary)>)[a-zA-Z/!]", prose)
    for link in re.findall(r"(?<!\\)\]\(([^)]*)\)", prose):
        assert link.startswith("report_files/"), link
    assert not re.search(r"(?m)^\s*(?<!\\)\[[^\]]*\]:", prose)
    assert "\n# heading" not in prose
    assert "\nlicense: mit" not in prose


def metadata(text: str, evil: str) -> None:
    """The card's YAML is one mapping of known keys, with the names as texts in it."""
    card = ModelCard(text)
    assert card.data.license == "other"
    (result, *_) = card.data.eval_results
    assert isinstance(result.dataset_name, str)
    assert isinstance(result.dataset_config, str)
    assert result.metric_value == pytest.approx(0.9)
    assert text.count("\n---\n") == 1 + len(re.findall(r"(?m)^---$", text.split("\n---\n", 1)[1]))
    assert not re.search(r"(?m)^---$", text.split("\n---\n", 1)[1])
