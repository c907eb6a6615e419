"""Random augmentation: the same images for all cells of a seed, others in every epoch."""

import json
from dataclasses import replace

import pytest
import torch

from core.small import CPU, PREPROCESS, prefix_features, small_images, small_net
from harness.augment import Augmentation, transform
from harness.errors import UsageError
from harness.feature_keys import Conditions
from harness.features import Features
from harness.placement import make_placement
from harness.progress import Progress
from harness.run_grid import run_grid
from harness.run_options import RunOptions
from harness.seeding import coins, derive_seed
from harness.spec import AUGMENTATIONS, DataSpec, Grid, TrainSpec

GRID = Grid(
    data=DataSpec("folder"),
    backbones=("small",),
    strategies=("head_only", "last_block", "full"),
    lrs=(1e-2, 1e-3),
    train=TrainSpec(epochs=3, batch_size=16, augment="crop,jitter", flip=True),
)
TRAIN, REST = torch.tensor([0, 3, 4, 7, 8]), torch.tensor([1, 2, 5, 6, 9])
IDS = tuple(f"{i}.png" for i in range(10))


def augmentation(model, pixels, **changes):
    given = {
        "model": model,
        "images": Features(pixels.permute(0, 2, 3, 1).contiguous()),
        "ids": IDS,
        "train": TRAIN,
        "rest": REST,
        "names": ("crop", "erase"),
        "flip": True,
        "conditions": Conditions(CPU, "fp32", True, False),
        "room": lambda held: make_placement(CPU, None),
    }
    return Augmentation(**(given | changes))


@pytest.fixture
def model():
    return small_net().to(memory_format=torch.channels_last)


@pytest.fixture
def pixels():
    return small_images(10)[0]


def test_training_rows_are_what_torchvision_makes_of_the_images(model, pixels):
    found = augmentation(model, pixels).at(5, 2, (0, 2))
    steps = transform(("crop", "erase"), PREPROCESS.size)
    mirror = coins(5, "flip", 2, ids=IDS)
    images = []
    for row in TRAIN.tolist():
        torch.manual_seed(derive_seed(5, "augment", 2, IDS[row]))
        images.append(steps(pixels[row].flip(2) if mirror[row] else pixels[row]))
    expected = prefix_features(model, torch.stack(images), (0, 2))
    index = torch.tensor([7, 0, 8])
    for cut in (0, 2):
        assert torch.equal(found[cut].batch(index, CPU), expected[cut].batch(torch.tensor([3, 0, 4]), CPU))
    assert not torch.equal(found[0].batch(TRAIN, CPU), pixels[TRAIN])


def test_another_epoch_another_seed_other_images_and_the_same_ones_once_only(model, pixels):
    shared = augmentation(model, pixels)

    def rows(seed, epoch):
        return shared.at(seed, epoch, (0,))[0].batch(TRAIN, CPU).clone()

    first = rows(0, 1)
    assert torch.equal(rows(0, 1), first)
    assert not torch.equal(rows(0, 2), first)
    assert not torch.equal(rows(1, 1), first)
    assert torch.equal(rows(0, 1), first), "whatever came between"


def test_cells_of_a_seed_share_one_pass_an_epoch(model, pixels):
    shared, seen = augmentation(model, pixels), []
    handle = model.parts["block1"].register_forward_hook(lambda *_: seen.append(1))
    shared.at(0, 1, (2,))
    passes = len(seen)
    shared.at(0, 1, (2,))
    assert len(seen) == passes > 0
    handle.remove()


def test_validation_and_test_rows_stay_as_they_are(model, pixels):
    found = augmentation(model, pixels).plain((0, 2))
    expected = prefix_features(model, pixels[REST], (0, 2))
    for cut in (0, 2):
        assert torch.equal(found[cut].batch(REST, CPU), expected[cut].batch(torch.arange(5), CPU))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_changes_images_and_keeps_their_shape(name, pixels):
    torch.manual_seed(0)
    steps = transform((name,), 32)
    out = [steps(image) for image in pixels.repeat(4, 1, 1, 1)]
    assert {(o.shape, o.dtype) for o in out} == {((3, 32, 32), torch.uint8)}
    assert any(not torch.equal(o, i) for o, i in zip(out, pixels.repeat(4, 1, 1, 1), strict=True))


def test_names_are_checked_and_put_in_order():
    assert TrainSpec(augment="erase, crop,crop").augment == "crop,erase"
    with pytest.raises(UsageError, match=r"unknown augmentation 'crp'.*crop"):
        TrainSpec(augment="crp")


def digests(outcomes):
    return {o.folder.name: (o.record["digests"], o.record["test"]) for o in outcomes}


def run(grid, out, images, **options):
    options = {"threads": 1, "device": "cpu"} | options
    return run_grid(grid, RunOptions(out=out, data_path=images, **options), Progress(quiet=True))


@pytest.mark.usefixtures("site")
def test_a_cell_of_an_augmented_grid_equals_the_same_cell_alone(tmp_path, images, monkeypatch):
    grid = replace(GRID, seeds=(0, 1))
    together = digests(run(grid, tmp_path / "grid", images))
    assert len(together) == len({str(d["checkpoint"]) for d, _ in together.values()}) == 12
    for number, strategy in enumerate(GRID.strategies):
        one = replace(grid, strategies=(strategy,), lrs=(1e-2,), seeds=(number % 2,))
        ((name, found),) = digests(run(one, tmp_path / "alone", images)).items()
        assert found == together[name]
    monkeypatch.setattr("harness.grid_run.cells_at_once", lambda *_: 2)
    assert digests(run(grid, tmp_path / "pairs", images)) == together
    assert digests(run(grid, tmp_path / "disk", images, cache_budget=0)) == together


@pytest.mark.usefixtures("site")
def test_an_augmented_grid_differs_from_a_plain_one_and_says_so(tmp_path, images):
    one = replace(GRID, strategies=("head_only",), lrs=(1e-2,))
    (augmented,) = run(one, tmp_path, images)
    (plain,) = run(replace(one, train=replace(one.train, augment="")), tmp_path, images)
    assert augmented.record["digests"]["checkpoint"] != plain.record["digests"]["checkpoint"]
    assert augmented.record["spec"]["train"]["augment"] == "crop,jitter"
    assert "--augment crop,jitter" in augmented.record["command"]
    assert "--augment" not in plain.record["command"]
    rows = [json.loads(line) for line in (augmented.folder.path / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]


@pytest.mark.usefixtures("site")
def test_an_interrupted_augmented_grid_goes_on_to_the_same_bits(tmp_path, images, monkeypatch):
    whole = digests(run(GRID, tmp_path / "whole", images))
    monkeypatch.setattr("harness.store.RunFolder.wants_resume", lambda *_: True)

    class Interrupted(Progress):
        left = 8

        def task(self, text, total, unit):
            context = super().task(text, total, unit)
            if unit == "epochs":
                task = context.__enter__()
                original = task.advance

                def advance(count):
                    original(count)
                    self.left -= count
                    if self.left <= 0:
                        raise KeyboardInterrupt

                task.advance = advance
                return _Given(task)
            return context

    options = RunOptions(out=tmp_path / "cut", data_path=images, threads=1, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        run_grid(GRID, options, Interrupted(quiet=True))
    assert digests(run(GRID, tmp_path / "cut", images)) == whole


class _Given:
    def __init__(self, task):
        self.task = task

    def __enter__(self):
        return self.task

    def __exit__(self, *details):
        return False
