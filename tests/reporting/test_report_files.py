from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from harness.errors import UsageError
from reports import figures
from reports.records import load_records
from reports.render import write_report
from reports.style import Picture
from reports.summary import build_report

from .fake_runs import fake_run, original_runs

EVIL = "<script>alert(1)</script>|`x`"


def write(folders, out, images="names", **options):
    return write_report(build_report(load_records(folders), **options), out, images)


class Page(HTMLParser):
    """Checks that elements close in order, and gathers tags and ids."""

    VOID = {"meta", "img", "br", "link", "input", "hr"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.links = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        found = dict(attrs)
        if "id" in found:
            self.ids.append(found["id"])
        self.links.append(found.get("href") or found.get("xlink:href") or found.get("src") or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def inline_sources(text):
    """What a browser computes for each style sheet and script of the page, in order."""
    found = re.findall(r"<(style|script)\b[^>]*>(.*?)</\1>", text, flags=re.S)
    return sorted(
        (f"{kind}-src", base64.b64encode(hashlib.sha256(content.encode()).digest()).decode())
        for kind, content in found
    )


def allowed_sources(text):
    """What the content-security policy allows: these and nothing else."""
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    assert rules.keys() == {
        "default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"
    }  # fmt: skip
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == ["'none'"]
    assert rules["img-src"] == ["data:"]
    kinds = ("script-src", "style-src")
    return sorted((kind, re.fullmatch(r"'sha256-(.*)'", s)[1]) for kind in kinds for s in rules[kind])


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    failed = fake_run(folder / "runs", strategy="full", error="out of memory")
    runs = [*original_runs(folder / "runs"), failed]
    files = write(runs, folder / "out")
    return folder / "out", files, runs


def test_the_page_stands_alone(original):
    out, _, _ = original
    text = (out / "index.html").read_text()
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    anchors = [link[1:] for link in page.links if link.startswith("#")]
    assert set(anchors) <= set(page.ids)
    outside = [link for link in page.links if link and not link.startswith(("#", "data:"))]
    assert set(outside) == {"https://example.org/data"}
    assert inline_sources(text) == allowed_sources(text)
    assert " style=" not in text
    assert not re.search(r"url\((?!#)|@import", text)
    assert len(text) < 1_000_000
    assert page.tags.count("h1") == 1
    assert page.tags.count("table") == page.tags.count("caption")


def test_the_parts_of_the_original_report(original):
    out, files, _ = original
    for name in ("index.html", "report.md"):
        text = (out / name).read_text().replace("\u00a0", " ")
        for part in ("Introduction and methods", "Misclassified examples", "Discussion", "Reproduce",
                     "Beside published figures", "Data and responsible use", "Failed runs", "out of memory",
                     "91.83 % [90.80, 92.76]", "13,856", "its text says 91.38 %", "Signature",
                     "harness run --suite celeba30k --strategy last_block --lr 0.0001"):  # fmt: skip
            assert part in text, (name, part)
    assert sorted(files) == sorted(p for p in out.rglob("*") if p.is_file())
    named = re.findall(r"\]\((report_files/[^)]+)\)", (out / "report.md").read_text())
    assert {out / n for n in named} == set((out / "report_files").iterdir())


def test_tables_of_markdown_are_regular(original):
    rows = [line for line in (original[0] / "report.md").read_text().splitlines() if line.startswith("|")]
    assert rows
    widths = {}
    for i, row in enumerate(rows):
        cells = len(re.findall(r"(?<!\\)\|", row))
        if set(row) <= set("|-:"):
            widths[i] = cells
            assert len(re.findall(r"(?<!\\)\|", rows[i - 1])) == cells
        elif widths and i + 1 < len(rows) and not set(rows[i + 1]) <= set("|-:"):
            assert cells == widths[max(widths)]


def test_the_same_bytes_twice(original, tmp_path):
    out, _, runs = original
    again = write(runs, tmp_path / "again")
    for file in again:
        assert file.read_bytes() == (out / file.relative_to(tmp_path / "again")).read_bytes()


def test_names_from_outside_are_harmless(tmp_path):
    folders = [
        fake_run(tmp_path, strategy=EVIL, name=f"run{n}", lr=lr, classes=(EVIL, "$a_b$"),
                 command=f"x {EVIL} ```", ids=[f"{i}{EVIL}" for i in range(150)],
                 card={"title": EVIL, "url": "javascript:alert(1)"})
        for n, lr in enumerate((1e-3, 1e-4))
    ]  # fmt: skip
    folders.append(fake_run(tmp_path, strategy="full", name="bad", error=f"{EVIL}\n# heading"))
    write(folders, tmp_path / "out", title=f"# {EVIL}")
    html, text = ((tmp_path / "out" / n).read_text() for n in ("index.html", "report.md"))
    page = Page(html)
    assert inline_sources(html) == allowed_sources(html)
    assert "javascript:alert(1)" not in page.links
    outside_code = re.sub(r"(?ms)^(`{3,})sh\n.*?\n\1$", "", text)
    outside_code = re.sub(r"(?<!\\)(`+)(?!`).*?(?<!`)\1(?!`)", "", outside_code)
    assert "<script" not in outside_code
    assert "\n# heading" not in text
    for row in outside_code.splitlines():
        if "alert(1)" in row and row.startswith("|"):
            assert not re.search(r"script&gt;\|", row)
    for svg in (tmp_path / "out" / "report_files").glob("*.svg"):
        assert "<script" not in svg.read_text()


@pytest.fixture
def no_figures(monkeypatch):
    """Draws nothing, for what has nothing to do with figures."""
    blank = Picture("experiment-1-accuracies", "", "<svg ></svg>")
    monkeypatch.setattr(figures, "accuracies", lambda _: blank)
    for name in ("curves", "confusion", "overview"):
        monkeypatch.setattr(figures, name, lambda _: None)


def images_of(tmp_path, **options):
    root = tmp_path / "images"
    root.mkdir()
    for i in range(1, 151):
        exif = Image.Exif()
        exif[0x010E] = "secret"
        Image.new("RGB", (178, 218), (i, 90, 120)).save(root / f"{i:06d}.jpg", exif=exif)
    return fake_run(tmp_path, path=str(root), **options)


@pytest.mark.usefixtures("no_figures")
def test_embedded_thumbnails_lose_their_metadata(tmp_path):
    files = write([images_of(tmp_path)], tmp_path / "out", "embed", examples=15)
    text = (tmp_path / "out" / "index.html").read_text()
    assert text.count("data:image/jpeg;base64,") == 15
    assert "Do not pass this file on" in text
    assert "Do not pass this folder on" in (tmp_path / "out" / "report.md").read_text()
    small = [f for f in files if f.suffix == ".jpg"]
    assert len(small) == 15
    assert b"secret" not in small[0].read_bytes()
    with Image.open(io.BytesIO(small[0].read_bytes())) as image:
        assert max(image.size) <= 176
        assert not image.getexif()


@pytest.mark.usefixtures("no_figures")
def test_thumbnails_go_when_they_are_no_longer_asked_for(tmp_path):
    run = images_of(tmp_path)
    write([run], tmp_path / "out", "embed")
    (tmp_path / "out" / "report_files" / "mine.txt").write_text("kept")
    write([run], tmp_path / "out", "names")
    left = {p.suffix for p in (tmp_path / "out" / "report_files").iterdir()}
    assert left == {".svg", ".txt"}
    assert "Do not pass" not in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.usefixtures("no_figures")
def test_images_by_name_or_not_at_all(tmp_path):
    run = fake_run(tmp_path, ids=[f"face{i}.jpg" for i in range(150)])
    write([run], tmp_path / "names", "names", examples=15)
    write([run], tmp_path / "none", "none")
    assert len(set(re.findall(r"face\d+\.jpg", (tmp_path / "names" / "index.html").read_text()))) == 15
    assert "face" not in (tmp_path / "none" / "index.html").read_text()
    assert "No image is named or shown, as asked." in (tmp_path / "none" / "report.md").read_text()


@pytest.mark.usefixtures("no_figures")
def test_no_warning_where_images_may_be_passed_on(tmp_path):
    run = images_of(tmp_path, card={"redistributable": True})
    write([run], tmp_path / "out", "embed")
    assert "Do not pass" not in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.usefixtures("no_figures")
def test_images_that_are_gone(tmp_path):
    write([fake_run(tmp_path)], tmp_path / "out", "embed")
    assert "The image isn't there any more." in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize("embedded", [True, False])
@pytest.mark.usefixtures("no_figures")
def test_the_banner_of_the_embedded_sample(tmp_path, embedded):
    write([fake_run(tmp_path, card={"embedded": embedded})], tmp_path / "out")
    for name in ("index.html", "report.md"):
        assert ("This is the embedded sample" in (tmp_path / "out" / name).read_text()) is embedded


def test_failed_runs_alone_seeds_and_a_diverged_run(tmp_path):
    failed = fake_run(tmp_path, strategy="full", error="out of memory")
    write([failed], tmp_path / "a")
    diverged = fake_run(tmp_path, seed=1)
    rows = [{"epoch": e, "train_loss": None, "val_loss": None, "val_accuracy": 0.5} for e in (1, 2)]
    (diverged / "history.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    write([failed, fake_run(tmp_path), diverged], tmp_path / "b")
    text = (tmp_path / "b" / "index.html").read_text()
    Page(text)
    assert "Over seeds" in text
    assert "diverged" in text


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("weights", ["none", "imagenet"])
def test_a_network_without_weights_is_not_said_to_have_learned(tmp_path, weights):
    write([fake_run(tmp_path, weights=weights)], tmp_path / "out")
    for name in ("report.md", "index.html"):
        text = (tmp_path / "out" / name).read_text()
        assert ("A network that begins at random (torchvision:vgg16) is trained to tell" in text) is (
            weights == "none"
        )
        assert ("A network that learned to see on other images" in text) is (weights != "none")


@pytest.mark.usefixtures("no_figures")
def test_one_comparison_is_not_corrected(tmp_path):
    write([fake_run(tmp_path, strategy=s) for s in ("head_only", "full")], tmp_path / "out")
    for name in ("report.md", "index.html"):
        text = (tmp_path / "out" / name).read_text()
        assert "There is one comparison, and nothing to correct its p-value for." in text
        assert "wrong in both cells" in text
        assert "1 comparisons" not in text


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("audited", [True, False])
def test_what_training_did_to_each_stage(tmp_path, audited):
    folder = fake_run(tmp_path, epochs=4)
    root = json.loads((folder / "result.json").read_text())
    stages = root["backbone"]["stages"]
    stages[8] |= {
        "lr": [{"epochs": [1, 2], "lr": 0.1}, {"epochs": [4, 4], "lr": 0.001}],
        "moved": 0.0123,
        "norm_statistics": {"before": "a", "after": "b"},
        "still": {"head.bias_": "zero gradient"},
    }
    if not audited:
        for stage in stages:
            for key in ("in_optimizer", "lr", "norm_statistics", "still"):
                del stage[key]
    (folder / "result.json").write_text(json.dumps(root))
    write([folder], tmp_path / "out")
    page, text = ((tmp_path / "out" / name).read_text() for name in ("index.html", "report.md"))
    Page(page)
    row = "| head | 8,194 | 8,194 | 8,194 | 1-2: 0.1, 4: 1e-3 | 1.2e-02 | changed |"
    assert (row in text) is audited
    assert ("| block1 | 38,720 | 0 | 0 | frozen | 0 | none |" in text) is audited
    assert ('<td class="wrap">1-2: 0.1, 4: 1e-3</td><td class="num">1.2e-02</td>' in page) is audited
    assert ("**Trained in name only:** head.bias\\_ (zero gradient)." in text) is audited
    assert ("<strong>Trained in name only:</strong> head.bias_ (zero gradient)." in page) is audited


@pytest.mark.usefixtures("no_figures")
def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't be written"):
        write([fake_run(tmp_path)], tmp_path / "file")


@pytest.mark.usefixtures("no_figures")
def test_an_unknown_way_to_show_images(tmp_path):
    with pytest.raises(UsageError, match="embed, names or none"):
        write([fake_run(tmp_path)], tmp_path / "out", "all")
