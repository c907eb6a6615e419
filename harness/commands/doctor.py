"""``harness doctor``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click

from harness.commands.data_paths import DATA_VARIABLES, WEIGHT_VARIABLE

_CELEBA = (
    "get CelebA (aligned images and annotations) from its authors' page, for non-commercial research only, "
    "and give its folder: --data celeba=PATH, or set"
)


@click.command("doctor", epilog="Example: harness doctor; harness doctor --determinism")
@click.option("--determinism", is_flag=True, help="Train a small cell in six ways and compare every bit.")
@click.option("--device", default="auto", show_default=True, help="Device for --determinism.")
@click.option(
    "--threads", type=click.IntRange(1, 1024), help="CPU threads for --determinism.  [default: all]"
)
def command(determinism: bool, device: str, threads: int | None) -> int:
    """Check this machine: device, versions, where data and weights are looked for, what is missing.

    With --determinism: whether a result here depends on the process, on the cells beside it, on where
    activations lie, or on an interruption. It takes about a minute; status 1 if anything differs.
    """
    if determinism:
        return _determinism(device, threads)
    for part in (_machine(), _packages(), _plugins(), _data(), _weights()):
        for name, text in part:
            click.echo(f"{name:<22} {text}")
    return 0


def _determinism(device: str, threads: int | None) -> int:
    import tempfile

    from harness import runtime
    from harness.determinism import ways

    chosen = runtime.choose_device(device)
    count = threads or runtime.default_threads()
    click.echo(f"one cell on {chosen} ({runtime.device_name(chosen)}), {count} threads, six ways", err=True)
    first, same = None, True
    click.echo(f"{'trained':<34} {'weights':<16}  {'predictions':<16}  seconds")
    with tempfile.TemporaryDirectory(prefix="harness-doctor-") as folder:
        for way in ways(Path(folder), str(chosen), count):
            first = first or way
            equal = (way.checkpoint, way.predictions) == (first.checkpoint, first.predictions)
            same = same and equal
            click.echo(
                f"{way.name:<34} {way.checkpoint[:16]}  {way.predictions[:16]}  {way.seconds:7.1f}"
                + ("" if equal else "  DIFFERS")
            )
    click.echo("every bit is the same" if same else "results depend on how they come about here")
    return 0 if same else 1


def _machine() -> Iterator[tuple[str, str]]:
    from harness import runtime
    from harness.placement import available_memory

    device = runtime.choose_device("auto")
    yield "device", f"{device} ({runtime.device_name(device)})"
    yield "threads", str(runtime.default_threads())
    yield "free memory", f"{available_memory() / 2**30:.1f} GiB"


def _packages() -> Iterator[tuple[str, str]]:
    from harness import runtime

    for name in ("transfer-harness", *runtime.PACKAGES):
        yield name, runtime.package_version(name) or "missing: pip install transfer-harness"


def _plugins() -> Iterator[tuple[str, str]]:
    from harness import plugins

    for group, kind in plugins.KINDS.items():
        fine = []
        for fault in plugins.clashes(group).values():
            yield f"{kind} broken", fault
        for name in plugins.find(group):
            try:
                plugins.load(group, name, kind)
                fine.append(name)
            except plugins.PluginError as error:
                yield f"{kind} broken", str(error)
        yield f"{kind}", ", ".join(fine)


def _data() -> Iterator[tuple[str, str]]:
    from harness.cache_dir import cache_dir

    drawn = sorted(p.name for p in cache_dir().glob("faces*") if p.is_dir())
    yield "cache", f"{cache_dir()} ({', '.join(drawn) or 'faces not drawn yet; the first run draws them'})"
    for variable in sorted(set(DATA_VARIABLES.values())):
        path = os.environ.get(variable)
        if not path:
            yield variable, f"not set; {_CELEBA} {variable}"
        else:
            yield variable, f"{path}" + ("" if Path(path).is_dir() else " (missing: no such folder)")


def _weights() -> Iterator[tuple[str, str]]:
    import torch

    from harness.backbones.embedded import embedded_file

    for name in ("vgg_tiny", "resnet_tiny"):
        there = embedded_file(name).is_file()
        yield f"{name} weights", "in the package" if there else "missing: install the package again"
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    found = sorted(p.name for p in hub.glob("*.pth")) if hub.is_dir() else []
    yield "ImageNet weights", f"downloaded to {hub} when asked ({', '.join(found) or 'none there yet'})"
    variable = WEIGHT_VARIABLE.format("VGG16")
    path = os.environ.get(variable)
    if not path:
        yield variable, "not set; a local file instead of the download: --weights PATH, or this variable"
    else:
        yield variable, path + ("" if Path(path).is_file() else " (missing: no such file)")
