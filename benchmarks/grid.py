"""The harness and its rivals on the same work, side by side: ``python -m benchmarks.grid --preset NAME``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path

from benchmarks.floor import floor
from benchmarks.launch import run_jobs
from benchmarks.prepare import drawn_images, parts_of, weights_file
from benchmarks.presets import PIPELINE, PRESETS, Preset
from benchmarks.rivals import RIVALS
from benchmarks.table import report
from benchmarks.work import Work

_DEFAULT = "ours,A,B,C,D"
_LOADER_WORKERS = 4  # as in torch's transfer learning tutorial


def main(argv: Sequence[str] | None = None) -> int:
    """Prints tables; 1 where a rival that was asked for gave no result."""
    options = _parser().parse_args(argv)
    if options.preset == PIPELINE:
        import_module("benchmarks.pipeline").main()
        return 0
    preset = _changed(PRESETS[options.preset], options)
    folder = _folder(options.work)
    work = make_work(preset, folder, options.threads, options.loader_workers)
    results = run_jobs(options.rivals, work, options.repeats, folder)
    least = floor(work, parts_of(preset.images, preset.parts)) if preset.floor else None
    print(report(results, _heading(options.preset, preset, work, options.repeats), least))
    if options.json:
        content = {"preset": options.preset, "work": asdict(work), "jobs": [asdict(r) for r in results]}
        options.json.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return int(any(r.error for r in results))


def make_work(preset: Preset, folder: Path, threads: int | None, loader_workers: int | None) -> Work:
    """The preset's work on images and weights in ``folder``, made where they aren't there yet."""
    from harness.runtime import default_threads

    cores = default_threads()
    return Work(
        data_path=str(drawn_images(folder, preset, preset.images)),
        backbone=preset.backbone,
        weights=weights_file(folder, preset),
        strategies=preset.strategies,
        lrs=preset.lrs,
        epochs=preset.epochs,
        batch_size=preset.batch_size,
        precision=preset.precision,
        device=preset.device,
        threads=threads or cores,
        loader_workers=min(_LOADER_WORKERS, cores) if loader_workers is None else loader_workers,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grid", description=__doc__)
    add = parser.add_argument
    add("--preset", required=True, choices=[*PRESETS, PIPELINE])
    add("--rivals", type=_rivals, default=_DEFAULT, help=f"of {','.join(RIVALS)}; default {_DEFAULT}")
    add("--repeats", type=int, default=3)
    add("--images", type=int, help="how many images in all, instead of the preset's")
    add("--epochs", type=int, help="instead of the preset's")
    add("--device", help="instead of the preset's")
    add("--precision", choices=["fp32", "tf32", "bf16"], help="instead of the preset's")
    add("--weights", help="a file of weights instead of random ones")
    add("--threads", type=int, help="of every job; default all cores that this process may use")
    add("--loader-workers", type=int, help="processes of those who use a DataLoader; default 4 or the cores")
    add("--json", type=Path, metavar="FILE", help="everything that was measured")
    add("--work", type=Path, metavar="FOLDER", help="for images and weights; default in the user's cache")
    return parser


def _rivals(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in RIVALS]
    if unknown:
        raise argparse.ArgumentTypeError(f"'{unknown[0]}' is none of {', '.join(RIVALS)}")
    return names


def _changed(preset: Preset, options: argparse.Namespace) -> Preset:
    names = ("images", "epochs", "device", "precision", "weights")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    return replace(preset, **given)


def _folder(asked: Path | None) -> Path:
    from harness.cache_dir import cache_dir

    folder = (asked or cache_dir() / "benchmarks").expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _heading(name: str, preset: Preset, work: Work, repeats: int) -> str:
    import torch

    from harness.runtime import device_name

    train, val, test = parts_of(preset.images, preset.parts)
    lrs = ", ".join(f"{lr:g}" for lr in work.lrs)
    where = (
        device_name(torch.device(work.device)) if work.device == "cpu" or torch.cuda.is_available() else "?"
    )
    return (
        f"`{name}`: {preset.about}; {', '.join(work.strategies)} x lr {lrs}; {train}/{val}/{test} images, "
        f"{work.epochs} epochs, batch {work.batch_size}, {work.precision}. {where}, {work.threads} threads, "
        f"torch {torch.__version__}; {repeats} repeats, medians (smallest–largest); "
        f"{work.loader_workers} loader processes where a DataLoader is used."
    )


if __name__ == "__main__":
    sys.exit(main())
