"""`harness list backbones --match`, and lists that one broken plugin doesn't end."""

import re
import warnings

import pytest
import torch
import torchvision

from core.small import Small, small_net, write_plugin
from harness.commands.backbone_table import look_into, matching, stages_in_short


@pytest.mark.parametrize(
    ("name", "features"),
    [("resnet18", 512), ("squeezenet1_1", 512), ("mobilenet_v3_small", 1024), ("regnet_y_400mf", 440)],
)
def test_parameters_and_multiply_adds_are_those_that_torchvision_publishes(name, features):
    published = torchvision.models.get_model_weights(name).DEFAULT.meta
    found = look_into(f"torchvision:{name}")
    assert found.parameters == published["num_params"] - 998 * (features + 1), "2 classes, not 1,000"
    # SqueezeNet's head is a convolution over 13 x 13 places.
    head = 998 * features * (169 if name == "squeezenet1_1" else 1) / 1e9
    assert found.gmacs == pytest.approx(published["_ops"] - head, abs=1e-3)
    assert found.cuttable
    assert found.size == 224


class Deciding(torch.nn.Module):
    """It looks at the data, which a tensor without any can't bear."""

    def forward(self, x):
        return x if x.sum().item() > 0 else -x


class Undecided(Small):
    name = "odd_undecided"

    def build(self, weights, num_classes, head):
        model = small_net(num_classes, covered=False)
        model.parts["block2"].append(Deciding())
        return model


class OddSmall(Small):
    name = "odd_small"


class Unfinished(Small):
    name = "odd_unfinished"

    def build(self, weights, num_classes, head):
        raise RuntimeError("not written yet")


class Nameless:
    @staticmethod
    def names():
        raise OSError("no list of names")


@pytest.fixture
def strange(tmp_path, monkeypatch):
    points = {
        "harness.strategies": {"aaa": "no_such_module:X"},
        "harness.backbones": {
            "odd_undecided": "core.test_list_backbones:Undecided",
            "odd_unfinished": "core.test_list_backbones:Unfinished",
            "odd_broken": "no_such_module:X",
            "odd_small": "core.test_list_backbones:OddSmall",
        },
        "harness.backbone_families": {
            "aaa": "no_such_module:X",
            "bbb": "core.test_list_backbones:Nameless",
        },
    }
    monkeypatch.syspath_prepend(write_plugin(tmp_path / "odd", "odd-plugin", points))


@pytest.mark.usefixtures("strange")
def test_what_is_broken_is_named_and_everything_else_is_listed(harness):
    status, output, errors = harness("list", "backbones", "--match", "odd_")
    assert status == 0
    assert re.search(r"^odd_small +32 +\d,\d{3} +0\.000  yes  block1\.\.block3 pool fc head$", output, re.M)
    assert re.search(r"^odd_undecided +32 +\d,\d{3} +-  yes  block1", output, re.M)
    assert re.search(r"^odd_unfinished +can't be built: RuntimeError: not written yet$", output, re.M)
    assert re.search(r"^odd_broken +can't be built: .*odd-plugin can't be loaded", output, re.M)
    first, second = errors.strip().splitlines()
    assert first.startswith("skipped: backbone family 'aaa' of package odd-plugin can't be loaded")
    assert (
        second
        == "skipped: backbone family 'bbb' of package odd-plugin has no names: OSError: no list of names"
    )
    _, output, _ = harness("list", "backbones", "--match", "squeezenet1_1")
    assert re.search(
        r"^torchvision:squeezenet1_1 +224 +723,522 +0\.\d{3}  yes  block1\.\.block4 head$", output, re.M
    )


@pytest.mark.usefixtures("strange")
def test_the_page_of_strategies_skips_a_broken_one(harness):
    status, output, errors = harness("list", "strategies", "--markdown")
    assert status == 0
    assert "| `norm_only` |" in output
    assert "aaa" not in output
    assert errors.startswith("skipped: strategy 'aaa' of package odd-plugin can't be loaded")


def test_many_are_named_and_few_looked_into(harness):
    status, output, errors = harness("list", "backbones", "--match", "resnet", "--details", "2")
    heading, *lines = output.splitlines()
    assert status == 0
    assert heading.split() == ["network", "px", "parameters", "GMACs", "cut", "stages"]
    assert [len(line.split()) > 1 for line in lines] == [True] * 2 + [False] * (len(lines) - 2)
    assert len(lines) > 100
    assert f"{len(lines) - 2} of {len(lines)} by name only" in errors
    status, output, _ = harness("list", "backbones", "--match", "resnet", "--details", "0")
    assert sorted(output.split()) == sorted(line.split()[0] for line in lines)


def test_patterns():
    assert matching("resnet_tiny") == (["resnet_tiny"], [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names, _ = matching("resnet18")
    assert names[:2] == ["timm:resnet18", "torchvision:resnet18"]
    assert "timm:seresnet18" in names[2:]
    assert matching("torchvision:vgg1?")[0] == [f"torchvision:vgg{n}" for n in (11, 13, 16, 19)]


def test_a_pattern_that_fits_nothing_is_an_error(harness):
    status, output, errors = harness("list", "backbones", "--match", "no_such_network")
    assert (status, output) == (2, "")
    assert "--match 'no_such_network' fits no network" in errors


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["stem", "layer1", "layer2", "layer3", "pool"], "stem layer1..layer3 pool"),
        (["blocks_0", "blocks_1", "blocks_3", "head"], "blocks_0..blocks_1 blocks_3 head"),
        (["fc6", "fc7", "head"], "fc6..fc7 head"),
        (["features_1", "features_3"], "features_1 features_3"),
        ([], ""),
    ],
)
def test_stages_in_short(names, text):
    assert stages_in_short(names) == text
