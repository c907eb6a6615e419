"""Where activations come from and where they lie never changes what they are."""

import json
from dataclasses import replace

import pytest
import torch

from core.small import CPU, Small, small_net
from harness import kept, pool, prefix
from harness.data.prepare import prepare_data
from harness.errors import UsageError
from harness.feature_keys import Conditions, feature_keys
from harness.features import Features, Recomputed
from harness.placement import Placement, parse_bytes, show_bytes
from harness.pool import FeaturePool
from harness.progress import Progress
from harness.seal import BLANK, KEY, file_digest, sealed
from harness.spec import DataSpec

ALL = torch.arange(60)


@pytest.fixture
def data(images):
    return prepare_data(DataSpec("folder"), images, 1)


@pytest.fixture
def model():
    return small_net().to(memory_format=torch.channels_last)


@pytest.fixture
def passes(monkeypatch):
    """(start, cuts) of every pass of a prefix."""
    seen = []

    def counting(model, start, stores, *rest, **options):
        seen.append((start, sorted(stores)))
        return prefix.compute_prefix(model, start, stores, *rest, **options)

    monkeypatch.setattr(pool, "compute_prefix", counting)
    return seen


class Said(Progress):
    def __init__(self):
        super().__init__(quiet=True)
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def make(data, *, budget=None, keep=False, mirrored=False):
    return FeaturePool(data, Conditions(CPU, "fp32", True, mirrored), 1, budget, keep, Said())


def rows(supply, mirror=None):
    return {cut: source.batch(ALL, CPU, mirror) for cut, source in supply.features.items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def expected(data, model):
    return rows(make(data).get(model, "small", (0, 2, 4)))


def test_all_cuts_come_from_one_pass(data, model, passes):
    supply = make(data).get(model, "small", (4, 0, 2))
    assert passes == [(0, [2, 4])]
    assert supply.features.keys() == {0, 2, 4}
    assert supply.decode_s > 0
    assert supply.prefix_s > 0


def test_what_is_at_hand_is_not_computed_again(data, model, passes, expected):
    at_hand = make(data)
    passes.clear()
    at_hand.get(model, "small", (2,))
    again = at_hand.get(model, "small", (2, 4))
    assert passes == [(0, [2]), (2, [4])], "the deeper cut comes from the shallower one"
    assert equal(rows(again), {k: expected[k] for k in (2, 4)})
    at_hand.get(model, "small", (4,))
    assert len(passes) == 2


def test_another_head_shares_the_prefix_and_other_weights_do_not(data, model, passes):
    at_hand = make(data)
    at_hand.get(model, "small", (4,))
    at_hand.get(small_net(5), "small", (4,))
    assert len(passes) == 1
    with torch.no_grad():
        model.parts["block2"][0].weight[0, 0, 0, 0] += 1e-6
    at_hand.get(model, "small", (4,))
    assert len(passes) == 2


@pytest.mark.parametrize("mirrored", [False, True])
def test_every_place_holds_the_same(data, model, mirrored, monkeypatch):
    coins = ALL % 3 == 0 if mirrored else None
    inside = make(data, mirrored=mirrored).get(model, "small", (0, 2, 4))
    on_disk = make(data, mirrored=mirrored, budget=0).get(model, "small", (0, 2, 4))
    monkeypatch.setattr("harness.placement._free_disk", lambda: 0)
    nowhere = make(data, mirrored=mirrored, budget=0).get(model, "small", (0, 2, 4))
    assert isinstance(on_disk.features[2], Features)
    assert isinstance(nowhere.features[2], Recomputed)
    for other in (on_disk, nowhere):
        assert equal(rows(other, coins), rows(inside, coins))


def test_a_mapped_file_goes_with_the_process(data, model, tmp_path):
    make(data, budget=0).get(model, "small", (2,))
    assert list((tmp_path / "cache" / "features").iterdir()) == []


def test_memory_holds_what_the_budget_allows_and_no_more(data, model):
    images, deep = 60 * 3 * 32 * 32, 60 * 16 * 4
    at_hand = make(data, budget=2 * images + deep)
    supply = at_hand.get(model, "small", (1, 4))
    said = " ".join(at_hand.progress.lines)
    assert "480 KiB in a mapped file" in said  # 60 x 16 x 16 x 8 floats
    assert "3.75 KiB in memory" in said
    assert supply.features.keys() == {1, 4}
    # What lies in the file takes no memory: there is room for block 2 (60 x 8 x 8 x 8 floats).
    assert at_hand.placement().memory_left == images
    at_hand.get(model, "small", (1, 2, 4))
    assert "120 KiB in memory" in at_hand.progress.lines[-1]
    assert at_hand.placement().memory_left == images - 60 * 8 * 8 * 8 * 4


def test_images_and_activations_together_stay_within_the_budget(data, model):
    images, block1 = 60 * 3 * 32 * 32, 60 * 16 * 16 * 8 * 4
    at_hand = make(data, budget=block1)  # the images get their half first
    at_hand.get(model, "small", (1,))
    assert at_hand.placement().memory_left == block1 - images
    assert "in a mapped file" in at_hand.progress.lines[-1]


def test_all_views_of_a_cut_lie_in_one_place(monkeypatch):
    monkeypatch.setattr("harness.placement._free_disk", lambda: 2**30)
    room = Placement(CPU, 0, 100)
    rows, where = room.allocate((60,), torch.uint8, 2)
    assert (len(rows), where, room.memory_left) == (2, "file", 100), "one view alone would have fitted"
    assert room.allocate((50,), torch.uint8, 2)[1] == "memory"


@pytest.mark.parametrize("mirrored", [False, True])
def test_kept_activations_serve_later_commands(data, model, passes, mirrored):
    coins = ALL % 3 == 0 if mirrored else None
    first = rows(make(data, keep=True, mirrored=mirrored).get(model, "small", (2, 4)), coins)
    assert len(passes) == 1 + mirrored
    assert len(list(kept.entries())) == 2 * (1 + mirrored)
    again = make(data, keep=True, mirrored=mirrored)
    assert equal(rows(again.get(model, "small", (2, 4)), coins), first)
    assert len(passes) == 1 + mirrored
    deeper = make(data, keep=True, mirrored=mirrored).get(model, "small", (3, 4))
    assert equal(rows(make(data, mirrored=mirrored).get(model, "small", (3, 4)), coins), rows(deeper, coins))


def test_nothing_is_kept_or_read_unless_asked(data, model, passes):
    make(data).get(model, "small", (2,))
    assert list(kept.entries()) == []
    make(data, keep=True).get(model, "small", (2,))
    make(data).get(model, "small", (2,))
    assert len(passes) == 3


def test_a_kept_entry_that_is_not_what_the_network_computes_is_removed(data, model, passes, expected):
    make(data, keep=True).get(model, "small", (2,))
    (entry,) = kept.entries()
    assert not kept.damaged(entry)
    file = entry.folder / "rows.bin"
    content = torch.from_file(str(file), shared=True, size=60 * 8 * 8 * 8)
    content.mul_(1.001)
    assert kept.damaged(entry)
    about = json.loads((entry.folder / "entry.json").read_text())
    about |= {"sha256": file_digest(file), KEY: BLANK}  # whole in itself, and wrong
    (entry.folder / "entry.json").write_text(sealed(json.dumps(about)))
    again = make(data, keep=True)
    assert equal(rows(again.get(model, "small", (2,))), {2: expected[2]})
    assert any("aren't what small computes" in line for line in again.progress.lines)
    assert len(passes) == 3
    assert not kept.damaged(next(kept.entries()))


def test_one_flipped_bit_of_a_kept_entry_is_found_before_it_is_used(data, model, passes, expected):
    make(data, keep=True).get(model, "small", (2,))
    (entry,) = kept.entries()
    for name in ("rows.bin", "entry.json"):
        content = bytearray((entry.folder / name).read_bytes())
        content[len(content) // 2] ^= 4
        (entry.folder / name).write_bytes(content)
        again = make(data, keep=True)
        assert equal(rows(again.get(model, "small", (2,))), {2: expected[2]})
        assert any("are damaged" in line for line in again.progress.lines)
    assert not kept.damaged(next(kept.entries()))


@pytest.mark.parametrize("damage", ["cut", "gone", "json", "other", "entry"])
def test_a_kept_entry_that_is_not_whole_is_not_used(data, model, passes, expected, damage):
    make(data, keep=True).get(model, "small", (2,))
    (entry,) = kept.entries()
    about = entry.folder / "entry.json"
    if damage == "cut":
        with (entry.folder / "rows.bin").open("r+b") as file:
            file.truncate(100)
    elif damage == "gone":
        (entry.folder / "rows.bin").unlink()
    elif damage == "json":
        about.write_text("{")
    elif damage == "entry":
        about.unlink()
    else:
        content = json.loads(about.read_text())
        content["key"]["images"] = "of others"
        about.write_text(json.dumps(content))
    again = make(data, keep=True).get(model, "small", (2,))
    assert equal(rows(again), {2: expected[2]})
    assert len(passes) == 3
    assert [e.name for e in kept.entries()] == [entry.name], "a whole one took its place"
    make(data, keep=True).get(model, "small", (2,))
    assert len(passes) == 3
    assert list(kept.drafts()) == []


def test_what_is_being_written_is_no_entry(data, model, monkeypatch):
    def interrupted(*given, **options):
        assert len(list(kept.drafts())) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "compute_prefix", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(data, keep=True).get(model, "small", (2,))
    assert list(kept.entries()) == []
    assert list(kept.drafts()) == []


def test_a_cache_that_cannot_be_written_costs_the_keeping_only(data, model, tmp_path, monkeypatch, expected):
    monkeypatch.setattr(
        "harness.placement.map_file", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    at_hand = make(data, keep=True)
    assert equal(rows(at_hand.get(model, "small", (2,))), {2: expected[2]})
    assert "can't keep activations: No space left" in at_hand.progress.lines


def test_a_disk_that_fills_up_between_two_views_or_at_the_end_costs_the_keeping_only(
    data, model, monkeypatch, expected
):
    original, calls = kept.draft, []

    def second_fails(*given):
        calls.append(given)
        if len(calls) == 2:
            raise OSError(28, "No space left")
        return original(*given)

    monkeypatch.setattr(kept, "draft", second_fails)
    make(data, keep=True, mirrored=True).get(model, "small", (2,))
    assert list(kept.drafts()) == []

    def at_the_end(*_):
        raise OSError(28, "No space left")

    monkeypatch.setattr(kept, "draft", original)
    monkeypatch.setattr(kept, "file_digest", at_the_end)
    at_hand = make(data, keep=True)
    assert equal(rows(at_hand.get(model, "small", (2,))), {2: expected[2]})
    assert "can't keep activations: No space left" in at_hand.progress.lines
    assert list(kept.drafts()) == list(kept.entries()) == []


def test_the_key_covers_all_that_the_rows_depend_on(data, model, monkeypatch):
    given = Conditions(CPU, "fp32", True, False)

    def digest(model=model, name="small", cut=2, view="plain", data=data, given=given):
        return feature_keys(model, name, cut, data, replace(given, mirrored=True))[view].digest

    found = [
        digest(),
        digest(name="other"),
        digest(cut=3),
        digest(view="mirrored"),
        digest(data=replace(data, images_digest="x")),
        digest(given=replace(given, precision="bf16")),
        digest(given=replace(given, deterministic=False)),
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    found.append(digest())
    torch.set_num_threads(threads)
    changed = Small().build("drawn", 2, "own")
    with torch.no_grad():
        changed.parts["block1"][1].running_mean[0] += 1
    found.append(digest(model=changed))
    changed = small_net()
    changed.parts["block1"][2] = torch.nn.GELU()
    found.append(digest(model=changed))
    changed = small_net()
    changed.preprocess = replace(changed.preprocess, mean=(0.4, 0.5, 0.5))
    found.append(digest(model=changed))
    monkeypatch.setattr("harness.feature_keys.DECODER_VERSION", 99)
    found.append(digest())
    assert len(set(found)) == len(found)


def test_the_key_does_not_cover_what_the_rows_do_not_depend_on(data, model):
    given = Conditions(CPU, "fp32", True, False)
    key = feature_keys(model, "small", 2, data, given)["plain"]
    relabelled = replace(data, digest="labels changed")
    assert feature_keys(small_net(7), "small", 2, relabelled, given)["plain"] == key
    assert feature_keys(model, "small", 2, data, replace(given, mirrored=True))["plain"] == key


def test_placement_prefers_the_device_then_memory_then_the_disk(monkeypatch):
    monkeypatch.setattr("harness.placement._free_disk", lambda: 110)
    room = Placement(torch.device("cuda"), 50, 30)
    assert [room.choose(n) for n in (40, 20, 20, 10, 90, 101)] == [
        "device", "memory", "file", "device", "file", "nowhere",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("12", 12), ("1K", 1024), ("1.5 MiB", 3 * 2**19), ("8G", 2**33), ("2gb", 2**31)],
)
def test_sizes(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "x", "-1", "8 GG", "1e3"])
def test_bad_sizes(text):
    with pytest.raises(UsageError, match="bad size"):
        parse_bytes(text)


def test_sizes_as_people_read_them():
    assert [show_bytes(n) for n in (5, 2048, 316e6, 2**30, 1.5 * 2**40)] == [
        "5 bytes", "2 KiB", "301 MiB", "1 GiB", "1536 GiB",
    ]  # fmt: skip
