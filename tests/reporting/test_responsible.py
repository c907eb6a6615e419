"""What a report says of labels, licence and use, for every kind of data that the package reads."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from harness.contracts import DataCard
from harness.data.celeba import CELEBA30K_CARD, CELEBA_CARD
from harness.data.faces import CARD as FACES_CARD
from harness.data.folder import Folder
from harness.data.table import Table
from reports.records import load_records
from reports.render import write_report
from reports.responsible import rules
from reports.summary import build_report

from .fake_runs import fake_run

JPEG = b"\xff\xd8\xff small"


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DataCard]:
    root = tmp_path_factory.mktemp("pets")
    for name in ("cats", "dogs"):
        (root / name).mkdir()
        (root / name / "1.png").touch()
    (root / "list.csv").write_text("path,label\ncats/1.png,cat\ndogs/1.png,dog\n")
    return {
        "celeba": CELEBA_CARD,
        "celeba30k": CELEBA30K_CARD,
        "faces": FACES_CARD,
        "folder": Folder().read(root, target=None, missing="error").card,
        "table": Table().read(root / "list.csv", target=None, missing="error").card,
    }


def written(folder: Path, card: DataCard, images: str) -> dict[str, str]:
    data = build_report(load_records([fake_run(folder, card=asdict(card))]))
    write_report(data, folder / "out", images, load_image=lambda _: JPEG)  # type: ignore[arg-type]
    return {n: (folder / "out" / n).read_text().replace("\u00a0", " ") for n in ("index.html", "report.md")}


WANTED = {
    "celeba": ("an annotator's reading of a picture, not a person's gender identity",
               "Non-commercial research",
               "Images of it may not be passed on", "classifying their gender in any product"),
    "faces": ("random model's own variables", "MIT, as the package", "may be passed on under that licence",
              "Any conclusion about photographs"),
    "folder": ("names of the folders", "Not stated; ask whoever the images come from",
               "is not known: until it is, don't", "Any decision about a person"),
    "table": ("column 'label' of list.csv", "Not stated; ask whoever the images come from",
              "is not known: until it is, don't", "Any decision about a person"),
}  # fmt: skip
WANTED["celeba30k"] = WANTED["celeba"]


@pytest.mark.parametrize("name", WANTED)
def test_each_kind_of_data(cards: dict[str, DataCard], name: str, tmp_path: Path) -> None:
    for file, text in written(tmp_path, cards[name], "names").items():
        plain = text.replace("&#39;", "'")
        for part in WANTED[name]:
            assert part in plain, (file, part)
        assert "Do not pass this" not in text


@pytest.mark.parametrize(
    ("name", "why"),
    [("celeba", "whose licence forbids it"), ("folder", "nobody is known to have allowed"), ("faces", None)],
)
def test_the_banner_above_images(
    cards: dict[str, DataCard], name: str, why: str | None, tmp_path: Path
) -> None:
    for text in written(tmp_path, cards[name], "embed").values():
        assert ("Do not pass this" in text) == (why is not None)
        assert why is None or why in text
    assert any((tmp_path / "out" / "report_files").glob("example-*.jpg"))


def test_a_card_that_says_nothing_permits_nothing() -> None:
    said = rules(DataCard("x", "", "", ""))
    assert said.licence.startswith("Not stated")
    assert said.private
    assert "Any decision about a person" in said.not_for
    assert rules(replace(FACES_CARD, redistributable=False)).private
