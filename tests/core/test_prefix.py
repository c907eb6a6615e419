"""Features of a frozen prefix: whatever way they are computed and kept, the same bits."""

import pytest
import torch

from core.small import CPU, prefix_features, small_images, small_net
from harness.features import BATCH, Features, Recomputed
from harness.prefix import compute_prefix

COUNT = BATCH + 10


@pytest.fixture(scope="module")
def model():
    return small_net().to(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def pixels():
    return small_images(COUNT)[0]


features = prefix_features


def test_a_cut_is_what_the_stages_before_it_compute(model, pixels):
    found = features(model, pixels, [3])[3]
    with torch.inference_mode():
        expected = model.eval().section(0, 3)(pixels)
    torch.testing.assert_close(found.rows, expected.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-5)
    assert found.rows.shape == (COUNT, 4, 4, 16)
    assert found.flipped is None


def test_a_deeper_cut_on_the_way_equals_the_same_cut_alone(model, pixels):
    together = features(model, pixels, [4, 1, 0, 2, 3, 2])
    assert list(together) == [0, 1, 2, 3, 4]
    for cut in together:
        alone = features(model, pixels, [cut])[cut]
        assert torch.equal(together[cut].rows, alone.rows), cut


def test_a_row_does_not_depend_on_how_many_there_are(model, pixels):
    whole = features(model, pixels, [4])[4].rows
    for count in (1, 7, BATCH - 1, BATCH, BATCH + 1):
        assert torch.equal(features(model, pixels[:count], [4])[4].rows, whole[:count]), count


def test_the_network_sees_batches_of_one_shape_only(model, pixels):
    seen = set()
    handle = model.parts["block1"].register_forward_hook(lambda _, args, out: seen.add(tuple(args[0].shape)))
    for count in (COUNT, 3):
        store = torch.empty(count, 8, 8, 8)
        compute_prefix(model, 0, {2: store}, lambda a, b: pixels[:count][a:b], device=CPU)  # noqa: B023
    handle.remove()
    assert seen == {(BATCH, 3, 32, 32)}


def test_a_row_does_not_depend_on_the_rows_beside_it(model, pixels):
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))
    whole = features(model, pixels, [2])[2].rows
    assert torch.equal(features(model, pixels[order], [2])[2].rows, whole[order])


def test_the_flipped_view_equals_features_of_flipped_images(model, pixels):
    both = features(model, pixels, [0, 3, 4], mirror=True)
    mirrored = features(model, pixels.flip(3), [3, 4])
    for cut in (3, 4):
        assert torch.equal(both[cut].flipped, mirrored[cut].rows)
        assert not torch.equal(both[cut].flipped, both[cut].rows)
    assert both[0].flipped is None


def test_cut_0_keeps_the_images_themselves(model, pixels):
    found = features(model, pixels, [0])[0]
    assert found.rows.dtype == torch.uint8
    assert torch.equal(found.rows, pixels.permute(0, 2, 3, 1))
    assert found.nbytes == COUNT * 3 * 32 * 32


def test_the_model_is_left_as_it_was(model, pixels):
    before = {n: t.clone() for n, t in model.tensors()}
    model.train()
    features(model, pixels, [4])
    assert all(torch.equal(t, before[n]) for n, t in model.tensors())


def test_progress_counts_every_image_once(model, pixels):
    seen = []
    features(model, pixels, [1], progress=seen.append)
    assert seen == [BATCH, 10]


def test_a_failing_loader_is_not_hidden(model):
    def load(start, stop):
        raise OSError("unreadable")

    with pytest.raises(OSError, match="unreadable"):
        compute_prefix(model, 0, {1: torch.empty(10, 16, 16, 8)}, load, device=CPU)


@pytest.mark.parametrize(("start", "cut"), [(1, 4), (2, 3), (3, 4), (4, 5)])
def test_what_is_derived_from_a_shallower_cut_equals_what_comes_from_the_images(model, pixels, start, cut):
    both = features(model, pixels, [start, cut], mirror=True)
    for rows, expected in ((both[start].rows, both[cut].rows), (both[start].flipped, both[cut].flipped)):
        store, source = torch.empty_like(expected), Features(rows)
        load = lambda a, b, source=source: source.batch(torch.arange(a, b), CPU)  # noqa: E731
        compute_prefix(model, start, {cut: store}, load, device=CPU)
        assert torch.equal(store, expected)


@pytest.mark.parametrize("size", [5, BATCH, BATCH + 3])
def test_recomputed_activations_equal_stored_ones(model, pixels, size):
    found = features(model, pixels, [0, 2, 4], mirror=True)
    index = torch.randperm(COUNT, generator=torch.Generator().manual_seed(2))[:size]
    mirror = torch.arange(size) % 2 == 0
    for start, cut in ((0, 2), (0, 4), (2, 4)):
        again = Recomputed(found[start], model.section(start, cut))
        assert torch.equal(again.batch(index, CPU), found[cut].batch(index, CPU))
        assert torch.equal(again.batch(index, CPU, mirror), found[cut].batch(index, CPU, mirror))


@pytest.mark.parametrize("cached", [True, False])
def test_a_batch_mirrors_the_rows_that_its_coins_name(cached):
    rows = torch.arange(5 * 2 * 3 * 1).view(5, 2, 3, 1).to(torch.uint8)
    given = Features(rows, rows + 100 if cached else None)
    index = torch.tensor([4, 0, 2])
    mirror = torch.tensor([True, False, True])
    x = given.batch(index, CPU, mirror)
    expected = rows[index].clone()
    for i in (0, 2):
        expected[i] = (rows + 100)[index[i]] if cached else rows[index[i]].flip(1)
    assert torch.equal(x, expected.permute(0, 3, 1, 2))
    assert torch.equal(given.rows, torch.arange(30).view(5, 2, 3, 1).to(torch.uint8)), "the store was changed"


def test_bf16_features_keep_their_type(model, pixels):
    found = features(model, pixels, [2], autocast=torch.bfloat16)[2].rows
    assert found.dtype == torch.bfloat16
    exact = features(model, pixels, [2])[2].rows
    torch.testing.assert_close(found.float(), exact, rtol=0.05, atol=0.1)
