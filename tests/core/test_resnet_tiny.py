"""The embedded network with norm layers: its stages, its weights, and what norm layers do in it."""

import copy
import json

import numpy as np
import pytest
import torch
import torchvision

from core.small import Planned, copies, image_features, make_cell, prefix_features, small_images, train_data
from core.watch import trained
from harness.audit import FrozenMoved, audit
from harness.backbones.embedded import embedded_file
from harness.backbones.pretrain_tiny import RECIPES, pretrain
from harness.backbones.resnet_tiny import NarrowResNet, ResNetTiny, TinyResNet
from harness.contracts import Plan, Segment, freeze, train
from harness.features import BATCH
from harness.plugins import load_strategy
from harness.testing import check_backbone
from harness.trainer import fit

STAGES = ("stem", "layer1", "layer2", "layer3", "layer4", "pool", "head")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(scope="module")
def embedded():
    torch.manual_seed(0)
    return ResNetTiny().build("embedded", 2, "own")


@pytest.fixture
def model(embedded):
    return copy.deepcopy(embedded)


def norm_tensors(model, kinds=(*STATISTICS, "weight", "bias")):
    """Names of the tensors of norm layers, those below the head."""
    norms = {p for p, m in model.parts.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    return {f"{p}.{kind}" for p in norms for kind in kinds}


def one_epoch(model, strategy, **settings):
    """(tensors before, names of those that moved, the audit) of an epoch without a shared prefix."""
    features, labels = image_features(12, 64)
    before = copies(model)
    cell = make_cell(model, strategy, **{"epochs": 1, "batch_size": 4, **settings})
    *_, last = fit(cell, train_data(features, labels, range(8), range(8, 12)))
    moved = {n for n, t in model.tensors() if not torch.equal(t, before[n])}
    return before, moved, audit(cell, before, model.describe(), last.witness)


def test_it_is_resnet18_with_fewer_channels():
    """With ResNet18's widths it holds torchvision's tensors and computes what torchvision's does."""
    reference = torchvision.models.resnet18(num_classes=5).eval()
    own = NarrowResNet((64, 128, 256, 512), 5).eval()
    own.load_state_dict(reference.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(own(x), reference(x))


def test_stages_and_size(model):
    assert model.stage_names == STAGES
    assert model.cuttable
    assert sum(p.numel() for p in TinyResNet().parameters()) == 397_469
    assert embedded_file("resnet_tiny").stat().st_size < 1_000_000
    assert {n for n, _ in model.tensors()} - model.pretrained == {"head.0.weight", "head.0.bias"}


def test_it_keeps_to_the_contract_of_backbones():
    check_backbone(ResNetTiny())


def test_its_statistics_are_those_of_the_pictures_it_was_trained_on(model):
    """In train mode a batch of drawn faces gives the running means, up to chance."""
    from harness.data.face_drawing import draw
    from harness.data.face_model import cast, imagine

    faces = np.ascontiguousarray(draw(imagine(5, *cast(5, (256,)))).transpose(0, 3, 1, 2))
    norm = model.parts["stem"][1]
    given = model.parts["stem"][0](model.normalize(torch.from_numpy(faces)))
    spread = norm.running_var.sqrt()
    assert ((given.mean((0, 2, 3)) - norm.running_mean).abs() / spread).max() < 0.2
    assert (given.var((0, 2, 3)) / norm.running_var).sub(1).abs().max() < 0.3


@pytest.mark.parametrize("name", RECIPES)
def test_pretraining_again_gives_the_same_tensors(name):
    one, two = (pretrain(RECIPES[name], epochs=1, images=64).state_dict() for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_narrow_vgg_without_batch_norm_computes_what_it_did_with_it():
    torch.manual_seed(0)
    recipe = RECIPES["vgg_tiny"]
    network = recipe.network()
    normed = recipe.trained(network)
    x = torch.randn(32, 3, 64, 64)
    normed(x)  # statistics of its own
    with torch.no_grad():
        expected = normed.eval()(x)
        recipe.finish(network, normed)
        assert torch.allclose(network.eval()(x), expected, rtol=1e-3, atol=1e-4 * expected.abs().max())
        assert expected.std() > 1e-3


# --------------------------------------------------------------------------- what trains


def test_norm_only_moves_norm_layers_and_the_head(model):
    _, moved, found = one_epoch(model, load_strategy("norm_only")[0])
    assert moved == norm_tensors(model) | {"head.0.weight", "head.0.bias"}
    assert sum(a.trained for a in found.values()) == 2 * (5 * 12 + 5 * 24 + 5 * 48 + 5 * 96) + 2 * 97


def test_bitfit_moves_biases_and_takes_the_statistics_along(model):
    _, moved, _ = one_epoch(model, load_strategy("bitfit")[0])
    assert moved == norm_tensors(model, (*STATISTICS, "bias")) | {"head.0.weight", "head.0.bias"}


@pytest.mark.parametrize(
    ("name", "norms"),
    [
        ("freeze_unfreeze[at=1]", False),
        ("freeze_unfreeze[at=1,train_norm=true]", True),
        ("backbone_finetuning[at=1,train_norm=true]", True),
        ("fine_tune[train_norm=true]", True),
    ],
)
def test_norm_layers_of_a_frozen_body_train_on_request(model, name, norms):
    before = copies(model)
    features, labels = image_features(12, 64)
    cell = make_cell(model, load_strategy(name)[0], epochs=2, batch_size=4)
    states = fit(cell, train_data(features, labels, range(8), range(8, 12)))
    next(states)
    moved = {n for n, t in model.tensors() if not torch.equal(t, before[n])}
    assert moved == (norm_tensors(model) if norms else set()) | {"head.0.weight", "head.0.bias"}


def test_a_frozen_stage_keeps_its_statistics_and_the_audit_hashes_them(model):
    _, moved, found = one_epoch(model, load_strategy("last_block")[0])
    assert {n.split(".")[0] for n in moved} == {"layer4", "head"}
    statistics = {s: a.norm_statistics for s, a in found.items()}
    assert statistics["pool"] is statistics["head"] is None
    for stage in STAGES[:4]:
        assert statistics[stage].before == statistics[stage].after
    assert statistics["layer4"].before != statistics["layer4"].after


def test_norm_layers_frozen_in_what_trains_keep_theirs(model):
    _, moved, found = one_epoch(model, Planned(Segment(1, Plan((freeze(norm=True), train())))))
    assert not moved & norm_tensors(model)
    assert all(
        a.norm_statistics.before == a.norm_statistics.after for a in found.values() if a.norm_statistics
    )


@pytest.mark.parametrize("statistic", STATISTICS)
def test_the_audit_names_a_frozen_statistic_that_moved(model, statistic):
    features, labels = image_features(12, 64)
    before = copies(model)
    cell = make_cell(model, load_strategy("head_only")[0], epochs=1, batch_size=4)
    *_, last = fit(cell, train_data(features, labels, range(8), range(8, 12)))
    name = f"layer2.0.0.downsample.1.{statistic}"
    dict(model.tensors())[name].add_(1)
    with pytest.raises(FrozenMoved, match=f"'{name}' was frozen"):
        audit(cell, before, model.describe(), last.witness)


# --------------------------------------------------------------------------- sharing and going on

GRADUAL = ("linear_probe", "last_block", "norm_only", "bitfit", "lp_ft[lr_ft=1e-3]", "freeze_unfreeze[at=1]")


def cell_and_data(embedded, name, cut, count=2 * BATCH + 8):
    model = copy.deepcopy(embedded).to(memory_format=torch.channels_last)
    cell = make_cell(model, load_strategy(name)[0], cut=cut, epochs=2, batch_size=BATCH, flip=True)
    pixels, labels = small_images(count, 64)
    features = prefix_features(model, pixels, sorted(set(cell.cuts)), mirror=True)
    data = train_data(features[cell.cuts[0]], labels, range(2 * BATCH), range(2 * BATCH, count))
    return cell, type(data)(features, data.labels, data.train, data.val, data.ids, 2)


@pytest.mark.parametrize("name", GRADUAL)
def test_from_a_shared_prefix_the_same_bits_as_from_the_images(embedded, name):
    (rows, tensors), (whole_rows, whole_tensors) = (
        trained(*cell_and_data(embedded, name, cut)) for cut in (None, 0)
    )
    assert rows == whole_rows
    assert all(torch.equal(tensors[n], whole_tensors[n]) for n in whole_tensors)


@pytest.mark.parametrize("name", GRADUAL)
def test_going_on_gives_the_same_bits_as_not_having_stopped(embedded, name):
    cell, data = cell_and_data(embedded, name, None)
    snapshots = [state.snapshot() for state in fit(cell, data)]
    whole = copies(cell.model)
    again, data = cell_and_data(embedded, name, None)
    _, tensors = trained(again, data, resume=snapshots[0])
    assert all(torch.equal(tensors[n], whole[n]) for n in whole)


def test_out_of_the_box_norm_only_moves_statistics_and_head_only_does_not(harness, images, tmp_path):
    status, out, errors = harness(
        "run", "--data", f"folder={images}", "--backbone", "resnet_tiny", "--strategy", "norm_only",
        "--strategy", "head_only", "--lr", "1e-3", "--epochs", "1", "--threads", "1", "--batch-size", "16",
    )  # fmt: skip
    assert status == 0, errors
    assert "norm_only" in out
    records = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/result.json")]
    assert {r["strategy"]["name"] for r in records} == {"norm_only", "head_only"}
    for record in records:
        spans = [s["norm_statistics"] for s in record["backbone"]["stages"] if s["norm_statistics"]]
        assert len(spans) == 5
        assert {s["before"] != s["after"] for s in spans} == {record["strategy"]["name"] == "norm_only"}
