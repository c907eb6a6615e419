"""The images that a report shows, against predictions written by hand."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest
from PIL import Image

from harness.errors import RecordError, UnknownName
from harness.heatmaps import FILE, HeatMap, HeatMaps, belonging, write_heatmaps
from harness.seal import BLANK, sealed
from reports.heat import overlay
from reports.record_types import BackboneFacts
from reports.records import load_records
from reports.render import write_report
from reports.summary import build_report

from .fake_runs import fake_run

EVIL = "<script>alert(1)</script>|`x`"


def written(parent, chances, *, labels=(0, 0, 0, 0, 1, 1, 1, 1), ids="abcdefgh", **options):
    """A run that gives class 1 the probability ``chances[i]`` for image ``ids[i]``."""
    prediction = [int(chance > 0.5) for chance in chances]
    confusion = np.zeros((2, 2), dtype=int)
    np.add.at(confusion, (list(labels), prediction), 1)
    folder = fake_run(parent, confusion=tuple(map(tuple, confusion.tolist())), **options)
    with (folder / "predictions.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "path", "group", "label", "prediction", "p0", "p1"])
        for name, label, named, chance in zip(ids, labels, prediction, chances, strict=True):
            out.writerow([name, f"{name}.png", "", label, named, 1 - chance, chance])
    return folder


# Image by image:     a    b    c    d    e    f    g    h; right are a-d below 0.5, e-h above.
BEST = (0.1, 0.2, 0.9, 0.8, 0.9, 0.6, 0.3, 0.7)  # wrong: c (0.9), d (0.8), g (0.7)
OTHER = (0.6, 0.9, 0.7, 0.1, 0.2, 0.7, 0.8, 0.6)  # wrong: a, b, c, e


def galleries(folders, **options):
    (experiment,) = build_report(load_records(folders), **options).experiments
    found = experiment.examples
    return found, {g.kind: (g.total, "".join(e.name for e in g.shown)) for g in found.galleries}


def two(parent, **options):
    return [
        written(parent, OTHER, strategy="head_only", val_accuracy=0.6),
        written(parent, BEST, strategy="last_block", val_accuracy=0.7, **options),
    ]


def test_every_kind_of_image(tmp_path):
    found, kinds = galleries(two(tmp_path), examples=2)
    assert (found.cell.setting, found.against.setting) == ("last_block, lr 1e-3", "head_only, lr 1e-3")
    assert found.mistakes == 3
    assert kinds["random"][0] == 3
    assert set(kinds["random"][1]) < set("cdg")
    assert kinds["confident"] == (3, "cd")
    # fixed: a (0.9 of the truth after 0.4), b (0.8 after 0.1), e (0.9 after 0.2): b and e changed by 0.7
    assert kinds["fixed"] == (3, "be")
    # broken: d (0.2 after 0.9), g (0.3 after 0.8)
    assert kinds["broken"] == (2, "dg")


def test_an_image_says_what_each_cell_took_it_for(tmp_path):
    found, _ = galleries(two(tmp_path, path="somewhere"))
    (broken,) = (g for g in found.galleries if g.kind == "broken")
    image = broken.shown[0]
    assert (image.name, image.path, image.root, image.label) == ("d", "d.png", "somewhere", "female")
    assert [(a.cell.number, a.prediction, a.probability) for a in image.answers] == [
        (2, "male", pytest.approx(0.8)),
        (1, "female", pytest.approx(0.9)),
    ]


def test_where_all_mistakes_are_shown_none_is_shown_twice(tmp_path):
    _, kinds = galleries(two(tmp_path), examples=3)
    assert set(kinds["random"][1]) == set("cdg")
    assert "confident" not in kinds


def test_equally_confident_mistakes_keep_the_order_of_the_test_images(tmp_path):
    folder = written(tmp_path, (0.8,) * 4 + (0.2,) * 4)
    assert galleries([folder], examples=3)[1]["confident"] == (8, "abc")


def test_random_mistakes_follow_their_seed(tmp_path):
    folder = fake_run(tmp_path)
    draws = [galleries([folder], seed=seed)[1]["random"] for seed in (3, 3, 4)]
    assert draws[0] == draws[1] != draws[2]
    assert all(total == 15 and len(re.findall(r"\d{6}", names)) == 5 for total, names in draws)


def test_one_cell_has_nothing_to_be_set_beside(tmp_path):
    found, kinds = galleries([fake_run(tmp_path)])
    assert found.against is None
    assert set(kinds) == {"random", "confident"}


def test_no_examples(tmp_path):
    _, kinds = galleries(two(tmp_path), examples=0)
    assert kinds == {"random": (3, ""), "confident": (3, ""), "fixed": (3, ""), "broken": (2, "")}


# --------------------------------------------------------------------------- the other cell

SOUND = ((80, 20), (10, 40))
COLLAPSED = ((100, 0), (50, 0))


def run(parent, strategy, trainable, val, confusion=SOUND, **options):
    folder = fake_run(parent, strategy=strategy, val_accuracy=val, confusion=confusion, **options)
    file = folder / "result.json"
    file.write_text(file.read_text().replace('"trainable": 119554050', f'"trainable": {trainable}'))
    return folder


def other(folders, **options):
    found, _ = galleries(folders, **options)
    return found.cell.name, found.against.name


def test_the_simplest_sound_cell_is_the_baseline(tmp_path):
    folders = [
        run(tmp_path, "full", 1000, 0.9),
        run(tmp_path, "last_block", 500, 0.85),
        run(tmp_path, "head_only", 10, 0.8),
        run(tmp_path, "norm_only", 5, 0.7, COLLAPSED),
    ]
    assert other(folders) == ("full, lr 1e-3", "head_only, lr 1e-3")


def test_the_simplest_cell_itself_is_set_beside_the_next_in_rank(tmp_path):
    folders = [
        run(tmp_path, "full", 1000, 0.7),
        run(tmp_path, "last_block", 500, 0.85),
        run(tmp_path, "head_only", 10, 0.9),
    ]
    assert other(folders) == ("head_only, lr 1e-3", "last_block, lr 1e-3")


def test_a_collapsed_cell_is_better_than_none(tmp_path):
    folders = [run(tmp_path, "full", 1000, 0.9), run(tmp_path, "head_only", 10, 0.7, COLLAPSED)]
    assert other(folders) == ("full, lr 1e-3", "head_only, lr 1e-3")


def test_seeds_are_paired(tmp_path):
    folders = [
        run(tmp_path, strategy, trainable, val, seed=seed)
        for strategy, trainable, vals in (("full", 1000, (0.8, 0.9)), ("head_only", 10, (0.7, 0.7)))
        for seed, val in enumerate(vals)
    ]
    assert other(folders) == ("full, lr 1e-3, seed 1", "head_only, lr 1e-3, seed 1")


@pytest.mark.parametrize(
    "name",
    ["1", "last_block", "last_block, lr 1e-3", "celeba30k-Male_vgg16_last_block_lr0.001_s0_0123456789"],
)
def test_the_other_cell_goes_by_many_names(tmp_path, name):
    folders = [
        run(tmp_path, "last_block", 500, 0.85),
        run(tmp_path, "full", 1000, 0.9),
        run(tmp_path, "head_only", 10, 0.8),
    ]
    assert other(folders, against=name) == ("full, lr 1e-3", "last_block, lr 1e-3")


def test_a_strategy_means_its_best_cell_beside_the_best(tmp_path):
    folders = [
        run(tmp_path, "full", 1000, 0.9),
        run(tmp_path, "full", 1000, 0.7, lr=1e-2),
        run(tmp_path, "full", 1000, 0.8, lr=1e-4),
    ]
    assert other(folders, against="full") == ("full, lr 1e-3", "full, lr 1e-4")


def test_an_unknown_name_is_one_line_that_lists_what_there_is(tmp_path):
    folders = [run(tmp_path, "full", 1000, 0.9), run(tmp_path, "head_only", 10, 0.8)]
    with pytest.raises(UnknownName, match="'head_onyl, lr 1e-3'; did you mean 'head_only, lr 1e-3'"):
        galleries(folders, against="head_onyl, lr 1e-3")
    with pytest.raises(UnknownName, match="'full'"):  # the best cell itself
        galleries(folders, against="full")


# --------------------------------------------------------------------------- heat

WARM = HeatMap(1, 0.5, np.array([[0, 255], [0, 0]], dtype=np.uint8))
COLD = HeatMap(1, 0.0, np.zeros((2, 2), dtype=np.uint8))


def heated(folder, maps):
    (record,) = load_records([folder])
    made = HeatMaps(record.run, belonging(record.result.digests), "block5", {}, maps)
    return write_heatmaps(folder, made)


@pytest.fixture
def pictured(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    for i, name in enumerate("abcdefgh"):
        Image.new("RGB", (60, 80), (20 * i, 90, 120)).save(root / f"{name}.png")
    return two(tmp_path / "runs", path=str(root))


def test_heat_stands_beside_the_image_it_belongs_to(pictured, tmp_path):
    heated(pictured[1], {"c": WARM, "d": COLD})
    heated(pictured[0], {"d": WARM})
    data = build_report(load_records(pictured))
    write_report(data, tmp_path / "out", "embed")
    page, text = ((tmp_path / "out" / name).read_text() for name in ("index.html", "report.md"))
    assert "Grad-CAM on the activations of block5" in page
    assert "What in c spoke for male, by last_block, lr 1e-3" in page
    assert "What in d spoke for female, by head_only, lr 1e-3" in page
    assert "What in d spoke for male" not in page
    assert "nothing spoke for it" in page
    named = set(re.findall(r"\]\(report_files/(example[^)]+)\)", text))
    assert named == {p.name for p in (tmp_path / "out" / "report_files").glob("example*")}
    assert len([n for n in named if "-cell-" in n]) == 2


@pytest.mark.parametrize("images", ["names", "none"])
def test_without_images_there_is_no_heat(pictured, tmp_path, images):
    heated(pictured[1], {"c": WARM})
    write_report(build_report(load_records(pictured)), tmp_path / "out", images)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Grad-CAM" not in page
    assert "data:image/jpeg" not in page


def test_heat_of_another_training_is_left_out(pictured):
    file = heated(pictured[1], {"c": WARM})
    blank = re.sub('"seal": "[0-9a-f]{64}"', f'"seal": "{BLANK}"', file.read_text())
    file.write_text(sealed(blank.replace("e" * 64, "f" * 64)))
    (experiment,) = build_report(load_records(pictured)).experiments
    assert not any(a.heat for g in experiment.examples.galleries for e in g.shown for a in e.answers)


def test_heat_that_can_t_be_read_is_one_line_that_names_the_file(pictured):
    (pictured[1] / FILE).write_text("{")
    with pytest.raises(RecordError, match=f"{pictured[1].name}/{FILE}'.*harness explain") as error:
        build_report(load_records(pictured))
    assert "\n" not in str(error.value)


def test_names_of_images_and_stages_are_harmless(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    folders = [
        written(tmp_path, BEST, ids=[f"{c}{EVIL}" for c in "abcdefgh"], classes=(EVIL, "b"), path=str(root))
    ]
    heated(folders[0], {f"c{EVIL}": WARM})
    for images in ("embed", "names"):
        data = build_report(load_records(folders))
        write_report(data, tmp_path / images, images, load_image=lambda _: picture())
        page, text = ((tmp_path / images / n).read_text() for n in ("index.html", "report.md"))
        assert "<script>alert" not in page
        rows = [r for r in text.splitlines() if r.startswith("| c")]
        assert rows
        assert not any("<script" in row or "`x`" in row.replace("\\`", "") for row in rows)


def picture(size=(60, 80), colour=(200, 200, 200)):
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "JPEG", quality=95)
    return out.getvalue()


def seen(size, resize):
    return BackboneFacts("n", 1, size, resize, (0.5,) * 3, (0.5,) * 3, "bilinear", (), ())


def laid(image, heat, network):
    with Image.open(io.BytesIO(overlay(image, heat, network))) as opened:
        return np.asarray(opened.convert("RGB")).astype(int)


def test_heat_lies_where_the_network_looked():
    found = laid(picture(), WARM, seen(64, 64))  # the 60 x 60 in the middle: rows 10 to 69
    assert found.shape == (80, 60, 3)
    assert np.abs(found[[2, 77]] - 0.35 * 200).max() < 12, "outside the crop it is dark"
    assert np.abs(found[60, 5] - 200).max() < 8, "cold places show the image"
    red, _, blue = found[15, 55]
    assert red - blue > 60, "the hot corner is in colour"
    assert np.ptp(found[60, 5]) < 8


def test_heat_of_a_smaller_crop_and_of_a_padded_one():
    inner = laid(picture((80, 80)), WARM, seen(32, 64))  # the 40 x 40 in the middle
    assert np.abs(inner[14] - 70).max() < 12, "a block of JPEG's above the crop"
    assert inner[22, 57, 0] - inner[22, 57, 2] > 40
    # A crop of twice the image: only the middle of the map lies on it.
    padded = laid(picture((80, 80)), WARM, seen(128, 64))
    assert padded.shape == (80, 80, 3)
    assert np.ptp(padded[2, 77]) > np.ptp(padded[77, 2])


def test_the_same_bytes_twice():
    assert overlay(picture(), WARM, seen(56, 64)) == overlay(picture(), WARM, seen(56, 64))
