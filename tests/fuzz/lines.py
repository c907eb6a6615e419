"""Command lines as Hypothesis draws them: every command and option that there is, good values and bad."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
from hypothesis import strategies as st

from fuzz.texts import ODD, mutated, toml_good, toml_value
from harness.cli import COMMANDS

NUMBERS = [
    "0",
    "-1",
    "3",
    "1_0",
    "1e3",
    "٣",
    "nan",
    "inf",
    "2.5",
    "x",
    "",
    " 1",
    "9" * 30,
    "9" * 5000,
    "1" * 19,
]
PATHS = ["images", "list.csv", "nowhere/../new", "list.csv/below", "x" * 300, "/proc/nope/x", "/dev/null"]
PATHS += ["/dev/null/x", "\udcff", "", ".", "new\nline", "\u202e"]
RUNS = ["nowhere", "runs/edited", "*", "../..", "runs", *ODD]
STRATEGIES = (
    "head_only last_k[k=2] full linear_probe scratch surgical[block=1] bitfit norm_only auto_rgn l2_sp "
    "lora_conv[r=2] auto_snr[threshold=0.5] lp_ft[probe_epochs=1] freeze_unfreeze[at=1] gradual_unfreeze "
    "head2toe[keep=0.5] layer_decay[decay=0.9] discriminative two_stage_lr[mult=0.5] fine_tune last_block "
    "backbone_finetuning"
)
BAD_STRATEGIES = (
    "last_k[k=99999999999999999999] last_k[k=-1] last_k[ last_k[k=1,k=2] last_k[] surgical surgical[block=nan] "  # noqa: E501
    "layer_decay[decay=0] layer_decay[decay=nan] l2_sp[weight=inf] l2_sp[weight=-1] head2toe[keep=2] [k=1] "
    "lora_conv[r=0] lora_conv[r=99999999999] freeze_unfreeze[at=0] lp_ft[lr_ft=0] head_only[x=1] head_onyl 1 "
    "two_stage_lr[mult=1e400] discriminative[decay=1e-400] lp_ft[lr_ft=1e308] auto_snr[threshold=nan]"
)
BAD_LRS = "fast 0 -1 nan inf 1e-5:1e-2 1:2:1e9 1:2:1e300 1:1:2 2:1:2 1e-5:1e-2:2.5 :: 1e400 1e-320 1e-2:1e-3:nan 1_0"  # noqa: E501
BAD_DATA = (
    "folder folder= =images folder=nowhere folder=list.csv table=images celeba=images nope=x celeba30k=celeba "  # noqa: E501
    "folder=. faces=images table=/dev/null table=images.csv"
)
BAD_HEADS = "mlp[] mlp[0] mlp[999999999999] mlp[-1] mlp[99999999999999999999999] nope"
HUGE = f"{'9' * 9} {'9' * 30}"
# Parameter -> words that are good for something, and words that aren't.
POOLS: Mapping[str, tuple[str, str]] = {
    "strategy": (STRATEGIES, BAD_STRATEGIES),
    "backbone": (
        "small",
        "smal torchvision: :x timm: timm:nope torchvision:vgg61 nope:x vgg_tiny squeezenet1_1",
    ),
    "augment": ("crop jitter,erase crop,crop", ", nope rotate,"),
    "lr": ("1e-2 1e-3 1e-4:1e-2:3 0.5", BAD_LRS),
    "data": ("folder=images table=list.csv celeba=celeba", BAD_DATA),
    "suite": ("mine.suite.toml", "faces celeba30k nope broken.suite.toml list.csv nowhere.toml images .toml"),
    "weights": (
        "none drawn small=none",
        "imagenet garbage.pth nowhere.safetensors small= =none images vgg16=x",
    ),
    "head": ("own linear mlp[8] mlp[8,4]", BAD_HEADS),
    "device": ("cpu auto", "cuda cuda:0 cuda:99 mps cpu:0 cpu:1 meta cuda:x cpu:-1"),
    "target": ("kind Smiling label", "path split nope"),
    "group": ("identity group", "nope"),
    "cache_budget": ("8G 0 1K 1.5M", f"8X -1 ٣ {'9' * 400}T 1e9"),
    "match": ("squeezenet1_1 timm:test_vit", "nope* [ [! torchvision:nope*"),
    "details": ("0 1", "-1 x"),
    "cell": ("1 2 head_only @run1", f"0 -1 99 {'9' * 30}"),
    "against": ("1 2 full @run1", f"0 -1 99 {'9' * 30}"),
    "slices": ("kind", "Male group nope"),
    "figure": ("new.svg a/new.svg new.SVG", "new.png images /dev/null/x.svg .svg"),
    "name": ("my_probe another", f"head_only faces vgg16 1x a__b class {'a' * 300} é torch harness test if"),
    "tracker": ("tensorboard", "nope"),
    "trackers": ("tensorboard", "nope"),
    "engine": ("local", "nope"),
    "to": ("safetensors", "nope"),
    "classes": ("2 3", "1 x"),
    # What is as long as it is asked to be stays short here.
    "epochs": ("1 2", f"0 -1 x 1.5 {'9' * 5000}"),
    "seeds": ("3", "2 -1 x"),
    "threads": ("1 2", f"0 -1 x {HUGE}"),
    # More start as many of this program; that has tests of its own.
    "processes": ("1", f"0 -1 x {HUGE}"),
    "workers": ("1 3", f"0 -1 x {HUGE}"),
    "run": ("@run1 @run2 runs/@run1", ""),
    "first": ("@run1 @run2 runs/@run1", ""),
    "second": ("@run1 @run2 runs/@run2", ""),
    "names": ("@run1 @run2", ""),
    "places": ("runs runs/@run1", ""),
    "runs": ("runs runs/@run1", ""),
    "images": ("images images/red/001.png images/*/*.png celeba", "list.csv nowhere.png garbage.pth"),
}
# Where a name means something else.
OWN: Mapping[tuple[str, str], tuple[str, str]] = {
    ("predict", "runs"): ("runs", "images list.csv"),
    ("rerun", "runs"): ("runs", "images list.csv"),
    ("rerun", "data"): ("images", "nowhere list.csv"),
    ("verify", "data"): ("images", "nowhere list.csv"),
    ("verify", "images"): ("true", "maybe"),
    ("report", "images"): ("embed names none", "nope"),
    ("check", "match"): ("head_only accuracy", "nope"),
    # A suite of the package's trains for minutes.
    ("check", "suite"): ("mine.suite.toml", "nope broken.suite.toml list.csv nowhere.toml images .toml"),
    ("bands", "suite"): ("mine.suite.toml", "nope broken.suite.toml list.csv nowhere.toml images .toml"),
}
# A command that would train begins with what keeps that short; what is drawn comes after it.
SHORT = {
    "run": "--data folder=images --backbone small --device cpu --threads 1 --epochs 1 --batch-size 16",
    "data audit": "--data folder=images --workers 1",
    "track": "runs --tracker tensorboard",
    "bands": "mine.suite.toml --data folder=images --device cpu --threads 1 --seeds 3",
    "check": "mine.suite.toml --data folder=images --device cpu --threads 1",
    "rerun": "@run1 --device cpu",
    "predict": "@run1 images/red/001.png --device cpu --threads 1",
    "show": "@run1",
    "show plan": "--backbone small",
    "compare": "@run1 @run2",
    "report": "runs",
    "explain": "runs",
    "new strategy": "my_probe",
    "new backbone": "my_network",
    "new dataset": "my_images",
    "verify": "runs",
}
BARE = {"run": "--limit 200 --epochs 1 --threads 1"}  # nothing else said: the embedded sample, less of it
WEIGHT = {"run": 8, "report": 2, "check": 2, "data audit": 2, "show plan": 2}
NEVER = {("doctor", "determinism"), ("report", "opened")}  # a minute of training; somebody's browser
LOOSE = [
    "--nope",
    "--",
    "-",
    "--lr",
    "--help",
    "-h",
    "--version",
    "extra",
    "--epochs=",
    "--no-flip",
    "--=x",
    *ODD,
]


@dataclass(frozen=True)
class Line:
    """What is asked for, and where: ``argv``, variables, and the text of ``harness.toml`` (None: no file).

    ``words`` is the command, ``values`` are all that was drawn, by parameter.
    """

    words: tuple[str, ...]
    argv: tuple[str, ...]
    variables: tuple[tuple[str, str], ...]
    config: str | None
    values: tuple[tuple[str, str], ...]


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command, those below a command as well."""
    for name in COMMANDS:
        module = importlib.import_module(f"harness.commands.{name.replace(' ', '_')}")
        yield from _below(tuple(name.split()), module.command)


def _below(words: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _below((*words, name), inner)
    else:
        yield words, command


FOUND = dict(commands())
WEIGHTED = [words for words in FOUND for _ in range(WEIGHT.get(" ".join(words), 1))]


def _pool(words: tuple[str, ...], parameter: click.Parameter) -> tuple[list[str], list[str]]:
    """Good words for a parameter, and bad ones."""
    name, kind = str(parameter.name), parameter.type
    if getattr(parameter, "is_flag", False):
        return ["true"], ["maybe", ""]
    if found := OWN.get((words[0], name)) or POOLS.get(name):
        good, bad = (text.split() for text in found)
        runs = RUNS if name in ("run", "first", "second", "names", "places", "runs") else []
        return good, [*bad, *runs, *ODD[:4]]
    if isinstance(kind, click.Choice):
        choices = [str(c) for c in kind.choices]
        return choices, ["nope", "", choices[0].upper()]
    if isinstance(kind, click.IntRange | click.FloatRange):
        return ["1", "2"], NUMBERS
    if isinstance(kind, click.Path):
        return ["new", "a/b/c", "ünï cödé"], PATHS
    return ["x", "a b"], ODD


@st.composite
def lines(draw: st.DrawFn, only: tuple[str, ...] = ()) -> Line:
    """A command with up to five options on the command line, in variables, in ``harness.toml``.

    Half of the lines hold one bad value, or a word that nobody asked for, or a broken file; the others are
    such as people would give, whether or not their parts go together.
    """
    words = only or draw(st.sampled_from(WEIGHTED))
    options = [p for p in FOUND[words].params if (words[0], p.name) not in NEVER]
    fault = draw(st.sampled_from(["none"] * 7 + ["value"] * 5 + ["word", "file", "bare"]))
    argv = (BARE if fault == "bare" else SHORT).get(" ".join(words), "").split()
    chosen = draw(st.lists(st.sampled_from(options), max_size=5)) if options else []
    faulty = draw(st.integers(0, len(chosen) - 1)) if chosen and fault == "value" else -1
    variables: dict[str, str] = {}
    table: dict[str, str] = {}
    values = []
    for number, parameter in enumerate(chosen):
        good, bad = _pool(words, parameter)
        value = draw(st.sampled_from(bad if number == faulty else good))
        values.append((str(parameter.name), value))
        where = draw(st.sampled_from(["argv"] * 6 + ["table"] * 2 + ["variable"]))
        if isinstance(parameter, click.Argument):
            argv.append(value)
        elif where == "argv":
            argv += _given(draw, parameter, value)
        elif where == "variable":
            variables["_".join(("HARNESS", *words, str(parameter.name))).upper()] = value
        else:
            table[str(parameter.name)] = draw(toml_value(value) if number == faulty else toml_good(value))
            values.append((str(parameter.name), table[str(parameter.name)].strip('"')))
    if fault == "word":
        argv.insert(draw(st.integers(0, len(argv))), draw(st.sampled_from(LOOSE)))
    if words == ("run",) and not draw(st.integers(0, 2)):
        argv.append("--plan")
    config = None
    if table or fault == "file":
        name = f'"{words[0]} {words[1]}"' if words == ("show", "plan") else ".".join(words)
        config = f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in table.items())
        config = draw(mutated(config, 2)) if fault == "file" else config
    return Line(words, (*words, *argv), tuple(variables.items()), config, tuple(values))


def _given(draw: st.DrawFn, parameter: click.Parameter, value: str) -> list[str]:
    name = draw(st.sampled_from([*parameter.opts, *parameter.secondary_opts]))
    if getattr(parameter, "is_flag", False):
        return [name]
    return [f"{name}={value}"] if draw(st.booleans()) else [name, value]


def may_change(line: Line, folder: Path, cache: Path) -> tuple[Path, ...]:
    """Where a line may write: the cache, its outputs as they are by default and as they were asked for."""
    outputs = {"out", "json_file", "list_file", "figure"}
    if line.words in (("explain",), ("data", "audit"), ("track",)):
        outputs |= {"runs", "places"}
    named = [value for name, value in line.values if name in outputs]
    suites = [v for n, v in line.values if n == "suite"] if line.words == ("bands",) else []
    work = folder / "work"
    usual = [
        "runs",
        "report",
        "exports",
        "tensorboard",
        "my_probe",
        "my_network",
        "my_images",
        "mine.suite.toml",
    ]
    usual += [value for name, value in line.values if name == "name"]
    usual += ["inf", "16", "1000"]  # as a file's numbers are written: 1e999, 0x10, 1_000
    places = [work / v for v in (*usual, *named, *suites) if v not in ("", ".") and "\0" not in v]
    return (cache, folder / "tmp", folder / "torch", *places)
