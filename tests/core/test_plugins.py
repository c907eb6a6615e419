"""Plugins as pip installs them: distributions with entry points in a folder on the import path."""

import sys
from pathlib import Path

import pytest

from core.small import write_plugin
from harness import plugins
from harness.errors import PluginError, UnknownName, UsageError

MODULE = """
from dataclasses import dataclass, field
from harness.contracts import Plan, Recipe, Segment, train

@dataclass(frozen=True)
class Typed:
    source = "a test"
    summary = "every type of option"
    k: int = 1
    rate: float = 0.5
    deep: bool = False
    word: str = "w"
    pair: tuple[int, int] = (1, 2)
    def recipe(self, stages, epochs):
        return Recipe((Segment(epochs, Plan((train(),))),))

@dataclass(frozen=True)
class Needs:
    source = "a test"
    summary = "an option without a default"
    depth: int
    names: list = field(default_factory=list)
    def recipe(self, stages, epochs):
        return Recipe((Segment(epochs, Plan((train(),))),))

class Plain:
    source = "a test"
    summary = "no dataclass"
    def recipe(self, stages, epochs):
        return Recipe((Segment(epochs, Plan((train(),))),))

class Sourceless:
    summary = "without a source"
    recipe = Plain.recipe

class Unmade(Plain):
    def __init__(self):
        raise RuntimeError("no such licence")
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "plugged_in.py").write_text(MODULE)
    (folder / "broken_one.py").write_text("raise RuntimeError('no such licence\\nsecond line')\n")
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)

    def add(package, points, group=plugins.STRATEGIES):
        write_plugin(folder, package, {group: points})
        monkeypatch.syspath_prepend(folder)  # forgets what was cached of the folder

    yield add
    for name in set(sys.modules) - before:
        if name in ("plugged_in", "broken_one"):
            del sys.modules[name]


@pytest.fixture
def typed(install):
    install(
        "typed-plugin",
        {"typed": "plugged_in:Typed", "needs": "plugged_in:Needs", "plain": "plugged_in:Plain"},
    )


def test_built_ins_come_through_entry_points():
    found = plugins.find(plugins.STRATEGIES)
    assert {"head_only", "last_block", "last_k", "linear_probe", "full", "scratch"} <= set(found)
    assert found["head_only"].package == "transfer-harness"
    assert {"torchvision", "timm"} <= set(plugins.find(plugins.FAMILIES))
    assert {"celeba", "celeba30k", "folder", "table"} <= set(plugins.find(plugins.DATASETS))


def test_a_foreign_plugin_is_found_beside_them(typed):
    found = plugins.find(plugins.STRATEGIES)["typed"]
    assert (found.package, found.version) == ("typed-plugin", "1.2")
    strategy, name, text = plugins.load_strategy("typed")
    assert name == "typed"
    assert strategy.summary == "every type of option"
    assert text == "typed[k=1,rate=0.5,deep=False,word=w,pair=(1, 2)]"


def test_listing_imports_nothing(typed):
    assert "typed" in plugins.find(plugins.STRATEGIES)
    assert "plugged_in" not in sys.modules


def test_a_broken_plugin_is_named_and_the_others_work(install):
    install("broken-plugin", {"broken": "broken_one:Thing", "absent": "no_module_here:Thing"})
    install("fine-plugin", {"typed": "plugged_in:Typed"})
    assert {"broken", "typed", "head_only"} <= set(plugins.find(plugins.STRATEGIES))
    with pytest.raises(PluginError, match=r"'broken' of package broken-plugin .*: no such licence$"):
        plugins.load_strategy("broken")
    with pytest.raises(PluginError, match=r"'absent' of package broken-plugin .*no_module_here"):
        plugins.load_strategy("absent")
    assert plugins.load_strategy("typed")[1] == "typed"
    assert plugins.load_strategy("head_only")[1] == "head_only"


def test_a_plugin_that_is_incomplete_is_named_before_anything_is_trained(install):
    points = {"sourceless": "plugged_in:Sourceless", "unmade": "plugged_in:Unmade"}
    install("broken-plugin", points)
    install("broken-plugin-2", {"sourceless": "plugged_in:Sourceless"}, plugins.DATASETS)
    with pytest.raises(PluginError, match=r"'sourceless' of package broken-plugin has no 'source'$"):
        plugins.load_strategy("sourceless")
    with pytest.raises(
        PluginError, match=r"'unmade' of package broken-plugin can't be made: .*no such licence$"
    ):
        plugins.load_strategy("unmade")
    with pytest.raises(PluginError, match=r"dataset 'sourceless' of package broken-plugin-2 has no 'name'$"):
        plugins.load_dataset("sourceless")


def test_two_packages_that_claim_one_name_are_both_named(install):
    install("first-plugin", {"same": "plugged_in:Typed"})
    install("second-plugin", {"same": "plugged_in:Needs"})
    with pytest.raises(PluginError, match=r"'same': \S+ .* and \S+") as error:
        plugins.load_strategy("same")
    assert "first-plugin" in str(error.value)
    assert "second-plugin" in str(error.value)


def test_a_plugin_may_not_take_a_built_in_name(install):
    install("greedy-plugin", {"head_only": "plugged_in:Typed"})
    with pytest.raises(PluginError, match="greedy-plugin") as error:
        plugins.load_strategy("head_only")
    assert "transfer-harness" in str(error.value)


def test_a_name_that_two_claim_keeps_nobody_from_the_others(install, harness):
    """It is named, not offered, and not free for a third."""
    install("greedy-plugin", {"full": "plugged_in:Typed", "own": "plugged_in:Typed"})
    assert not {"full"} & set(plugins.find(plugins.STRATEGIES))
    (fault,) = plugins.clashes(plugins.STRATEGIES).values()
    assert fault == (
        "more than one package offers strategy 'full': greedy-plugin (plugged_in:Typed) and "
        "transfer-harness (strategies.full:Full); uninstall all but one"
    )
    assert plugins.load_strategy("own")[1] == "own"
    status, output, errors = harness("list", "strategies")
    assert (status, errors) == (0, f"skipped: {fault}\n")
    assert {"own", "head_only"} <= {line.split()[0] for line in output.splitlines()}
    assert harness("show", "plan", "--strategy", "head_only")[0] == 0
    assert harness("show", "plan", "--strategy", "full")[::2] == (2, f"harness: {fault}\n")
    status, _, errors = harness("new", "strategy", "full")
    assert (status, errors) == (2, f"harness: choose another name: {fault}\n")


def test_a_backbone_that_two_claim_is_named(install, harness):
    install("greedy-plugin", {"vgg_tiny": "plugged_in:Typed"}, plugins.BACKBONES)
    with pytest.raises(PluginError, match=r"backbone 'vgg_tiny': greedy-plugin .* and transfer-harness"):
        plugins.load_backbone("vgg_tiny")
    assert plugins.load_backbone("resnet_tiny").name == "resnet_tiny"
    for words in (("list", "backbones"), ("list", "backbones", "--match", "resnet_tiny", "--details", 0)):
        status, output, errors = harness(*words)
        assert status == 0
        assert "resnet_tiny" in output
        assert "greedy-plugin" in errors


def test_a_package_that_is_on_the_path_twice_claims_its_names_once(install, monkeypatch, tmp_path):
    install("typed-plugin", {"typed": "plugged_in:Typed"})
    write_plugin(tmp_path / "again", "typed-plugin", {plugins.STRATEGIES: {"typed": "plugged_in:Typed"}})
    monkeypatch.syspath_prepend(tmp_path / "again")
    assert plugins.load_strategy("typed")[1] == "typed"


@pytest.mark.parametrize(
    ("load", "wrong", "right"),
    [
        (plugins.load_strategy, "head_onyl", "head_only"),
        (plugins.load_dataset, "celebra", "celeba"),
        (plugins.load_backbone, "vgg16x", "vgg16"),
        (plugins.load_backbone, "torchvison:vgg16", "torchvision"),
        (plugins.load_backbone, "torchvision:vgg_16", "vgg16"),
        (plugins.load_backbone, "timm:resnet81", "resnet18"),
    ],
)
def test_an_unknown_name_suggests_the_nearest_and_lists_what_exists(load, wrong, right):
    with pytest.raises(UnknownName, match=f"did you mean '{right}'.*there are: ") as error:
        load(wrong)
    assert wrong.split(":")[-1] in str(error.value) or wrong.split(":")[0] in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_that_resembles_nothing_gets_no_suggestion():
    with pytest.raises(UnknownName) as error:
        plugins.load_strategy("zzzzzzzz")
    assert "did you mean" not in str(error.value)


def test_options_are_typed(typed):
    strategy, _, text = plugins.load_strategy(" typed[k=3, rate=1e-2,deep=true,word=abc] ")
    assert (strategy.k, strategy.rate, strategy.deep, strategy.word) == (3, 0.01, True, "abc")
    assert text == "typed[k=3,rate=0.01,deep=True,word=abc,pair=(1, 2)]"


def test_the_canonical_text_names_every_option_and_means_the_same(typed):
    for given in ("last_k[k=2]", "last_k[ k = 2 ]"):
        strategy, _, text = plugins.load_strategy(given)
        assert text == "last_k[k=2]"
        assert plugins.load_strategy(text)[0] == strategy
    for given in ("last_k", "last_k[]", "last_k[k=1]", "last_block"):  # two names of one cell
        assert plugins.load_strategy(given)[1:] == ("last_block", "last_block")
    assert plugins.load_strategy("head_only")[2] == "head_only"
    assert plugins.load_strategy("plain")[2] == "plain"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("typed[k=two]", "'two' is not a int"),
        ("typed[k=1.5]", r"typed\[k=1\.5\]"),
        ("typed[rate=fast]", "'fast' is not a float"),
        ("typed[rate=nan]", r"typed\[rate=nan\]: not a finite number"),
        ("typed[rate=-inf]", r"typed\[rate=-inf\]: not a finite number"),
        ("typed[rate=1e400]", r"typed\[rate=1e400\]: not a finite number"),
        ("typed[pair=(1, 1e400)]", r"'\(1, 1e400\)' is not a tuple"),
        ("auto_snr[threshold=nan]", r"auto_snr\[threshold=nan\]: not a finite number"),
        ("head2toe[lasso=inf]", r"head2toe\[lasso=inf\]: not a finite number"),
        ("lp_ft[lr_ft=nan]", r"lp_ft\[lr_ft=nan\]: not a finite number"),
        ("typed[deep=perhaps]", "'perhaps' is not a bool"),
        ("typed[k]", r"typed\[k\]"),
        ("typed[kk=1]", "unknown option of typed 'kk'; did you mean 'k'"),
        ("typed[k=1,k=2]", "k is there twice"),
        ("needs", "needs option 'depth'"),
        ("needs[names=[]]", "needs option 'depth'"),
        ("typed[k=1", "bad strategy"),
        ("", "bad strategy"),
        ("[k=1]", "bad strategy"),
        ("head_only[k=1]", "unknown option of head_only 'k'"),
        ("plain[k=1]", "unknown option of plain 'k'"),
    ],
)
def test_a_bad_option_is_named(typed, text, message):
    with pytest.raises(UsageError, match=message):
        plugins.load_strategy(text)


def test_a_tuple_option_round_trips(typed):
    strategy, _, text = plugins.load_strategy("typed[pair=(3, 4)]")
    assert strategy.pair == (3, 4)
    assert plugins.load_strategy(text)[0] == strategy


def test_short_names_are_torchvisions():
    assert plugins.load_backbone("vgg16").name == "torchvision:vgg16"
    assert plugins.load_backbone("timm:vgg16").name == "timm:vgg16"


def test_the_small_backbone_of_these_tests_is_a_plugin_too(site):
    found = plugins.find(plugins.BACKBONES)["small"]
    assert found.package == "small-nets"
    assert Path(found.entry_point.dist._path).parent == site
    assert plugins.load_backbone("small").name == "small"
