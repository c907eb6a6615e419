"""A scratch folder in which what pages show can be run: what a reader would have, small and drawn.

The photographs of the pages are drawn faces here, pretrained weights are random ones of the right shape,
and ``HARNESS_RUN_LIMIT`` and ``HARNESS_RUN_EPOCHS`` turn the numbers down; commands are run as they stand.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import requires, version
from pathlib import Path

import numpy as np
from packaging.requirements import Requirement

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PIP = "--no-deps --no-build-isolation --no-index --disable-pip-version-check --quiet"
LIMIT, EPOCHS = "96", "2"

# Words that pages use for what a reader has to fill in -> what the shell finds out when it gets there.
FILLED = {"RUN": "run", "A": "a", "B": "b", "3f2a9c01de": "digits"}

_SHIMS = {
    "harness": 'exec {python} -I -S {server} {socket} client "$@"\n',
    # Packages of the page's own are installed for real; those of the index are here already.
    "python": (
        'if [ "$1 $2 $3" = "-m pip install" ]; then shift 3; exec {python} {installer} "$@"; fi\n'
        'exec {python} "$@"\n'
    ),
    "pick": 'exec {python} {picker} "$@"\n',
}


def install(site: Path, words: list[str]) -> int:
    """``pip install``: a folder below the current one goes into ``site``; all else is to be there already."""
    own = [w for w in words if w.startswith("./") and Path(w, "pyproject.toml").exists()]
    if own:
        command = [sys.executable, "-m", "pip", "install", *shlex.split(PIP), "--target", str(site), *own]
        subprocess.run(command, check=True)
    for word in (w for w in words if not w.startswith("-") and w not in own):
        _check_there(Requirement(f"transfer-harness{word[1:]}" if word.startswith(".") else word))
    return 0


def _check_there(wanted: Requirement) -> None:
    """Raises PackageNotFoundError where something lacks of a package with its extras."""
    version(wanted.name)
    for needed in map(Requirement, requires(wanted.name) or ()):
        if needed.marker and any(needed.marker.evaluate({"extra": e}) for e in wanted.extras):
            version(needed.name)


def pick(what: str) -> str:
    """The name of a run in ``runs``: ``run`` and ``a`` are the first, ``b`` is one of another strategy."""
    names = sorted(p.parent.name for p in Path("runs").glob("*/result.json"))
    if what == "b":
        return next(n for n in names if "head_only" not in n)
    first = next((n for n in names if "head_only" in n), names[0])
    return first.rpartition("_")[2] if what == "digits" else first


def filled(text: str) -> str:
    """A block with the words of ``FILLED`` in place of what it leaves to the reader."""
    for word, what in FILLED.items():
        text = re.sub(rf"(?<![\w./-]){word}(?![\w-])|(?<=runs/){word}\b", f'"$(pick {what})"', text)
    return text


class World:
    """Stand-ins, made once; :meth:`scratch` gives a folder with links to them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.things = root / "things"
        self.things.mkdir()
        _images(self.things)
        # Alone: beside the checkout's they would be imported with its harness, not the installed one.
        shutil.copytree(ROOT / "benchmarks", root / "project" / "benchmarks")
        self.weights = _weights(root / "weights")
        (self.things / "resnet18.safetensors").symlink_to(self.weights["HARNESS_RESNET18_WEIGHTS"])
        self.env = self._environment()
        start = [sys.executable, str(HERE / "server.py"), str(root / "socket")]
        self.server = subprocess.Popen(
            start, cwd=root, env=self.env, stdout=subprocess.PIPE, stderr=(root / "log").open("w"), text=True
        )
        assert self.server.stdout
        assert self.server.stdout.readline() == "ready\n", (root / "log").read_text()

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HARNESS_", "MLFLOW_", "WANDB_"))}
        return kept | self.weights | {
            "OMP_NUM_THREADS": "1",
            "MPLBACKEND": "Agg",
            "HARNESS_CACHE": str(self.root / "cache"),
            "HARNESS_RUN_LIMIT": LIMIT,
            "HARNESS_DATA_AUDIT_LIMIT": LIMIT,
            "HARNESS_RUN_EPOCHS": EPOCHS,
            "HARNESS_RUN_THREADS": "1",
            "HARNESS_RUN_BATCH_SIZE": "32",
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_CACHE": str(_hub(self.root / "hub", self.things / "train.parquet")),
            "TORCH_HOME": str(self.root / "torch"),
        }  # fmt: skip

    def scratch(self, name: str, *, runs: bool) -> Path:
        """A fresh folder; with ``runs`` those of a small grid lie in it already."""
        folder = self.root / name.replace("/", "-")
        folder.mkdir()
        for thing in self.things.iterdir():
            (folder / thing.name).symlink_to(thing)
        if runs:
            shutil.copytree(self._grid(), folder / "runs")
        return folder

    def _grid(self) -> Path:
        place = self.root / "grid"
        if not place.exists():
            place.mkdir()
            words = "harness run --strategy head_only --strategy last_block --seed 0 --seed 1 --quiet"
            self.run(place, words)
        return place / "runs"

    def run(self, folder: Path, script: str) -> None:
        """Runs a shell script in ``folder``; AssertionError with what it printed where it fails."""
        with self._shims(folder) as path:
            env = self.env | {"PATH": path, "SHOWN_SITE": str(folder / ".site")}
            env["PYTHONPATH"] = os.pathsep.join(
                filter(None, [env["SHOWN_SITE"], str(self.root / "project"), env.get("PYTHONPATH", "")])
            )
            done = subprocess.run(
                ["sh", "-e", "-c", filled(script)], cwd=folder, env=env, capture_output=True, text=True,
                timeout=600, stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"

    @contextmanager
    def _shims(self, folder: Path) -> Iterator[str]:
        place = folder / ".bin"
        place.mkdir(exist_ok=True)
        given = {
            "python": sys.executable,
            "server": HERE / "server.py",
            "socket": self.root / "socket",
            "installer": f"{HERE / 'world.py'} install {folder / '.site'}",
            "picker": f"{HERE / 'world.py'} pick",
        }
        for name, text in _SHIMS.items():
            (place / name).write_text(f"#!/bin/sh\n{text.format(**given)}")
            (place / name).chmod(0o755)
        yield os.pathsep.join([str(place), str(Path(sys.executable).parent), self.env["PATH"]])

    def close(self) -> None:
        """Ends the server."""
        self.server.kill()
        self.server.communicate()


def _images(place: Path) -> None:
    """CelebA's layout, class folders, a table, Parquet and tar shards: all of the same drawn faces."""
    from harness.data.faces import write_faces

    celeba = place / "CelebA"
    write_faces(celeba, (120, 40, 40))
    (place / "PATH").symlink_to(celeba)
    listed = celeba / "list_attr_celeba.txt"
    count, names, *rows = listed.read_text().splitlines()
    # The real experiment's label, by a coin.
    coin = np.random.default_rng(0).choice(["-1", " 1"], len(rows))
    rows = [f"{row} {side}" for row, side in zip(rows, coin, strict=True)]
    listed.write_text("\n".join([count, f"{names} Male", *rows]) + "\n")
    who = dict(line.split() for line in (celeba / "identity_CelebA.txt").read_text().splitlines())
    smiling = names.split().index("Smiling") + 1
    labels = {row.split()[0]: "cat" if row.split()[smiling] == "1" else "dog" for row in rows}
    samples = []
    for name, label in labels.items():
        target = place / "photos" / label / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(celeba / "img_align_celeba" / name, target)
        samples.append((f"photos/{label}/{name}", label, who[name]))
    for file in ("photos.csv", "FILE.csv"):
        with (place / file).open("w", newline="") as out:
            csv.writer(out, lineterminator="\n").writerows([("path", "label", "group"), *samples])
    shutil.copy(place / samples[0][0], place / "photo.jpg")
    (place / "scans" / "old").mkdir(parents=True)
    from PIL import Image

    Image.open(place / samples[1][0]).save(place / "scans" / "old" / "1.png")
    _shards(place, samples)
    _parquet(place, samples)


def _shards(place: Path, samples: list[tuple[str, str, str]]) -> None:
    (place / "shards").mkdir()
    for number in range(64):
        for name in (f"shards/train-{number:03d}.tar", f"shard-{number:03d}.tar"):
            with tarfile.open(place / name, "w") as tar:
                for path, label, _ in samples[number::64]:
                    key = Path(path).stem
                    for suffix, data in (
                        ("jpg", (place / path).read_bytes()),
                        ("cls", str(int(label == "cat")).encode()),
                        ("json", f'{{"Smiling": {int(label == "cat")}}}'.encode()),
                    ):
                        info = tarfile.TarInfo(f"{key}.{suffix}")
                        info.size = len(data)
                        tar.addfile(info, io.BytesIO(data))


def _parquet(place: Path, samples: list[tuple[str, str, str]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({
        "image": [(place / path).read_bytes() for path, _, _ in samples],
        "label": [label for _, label, _ in samples],
    })  # fmt: skip
    (place / "FOLDER").mkdir()
    for file in ("train.parquet", "FILE.parquet", "photos.parquet", "FOLDER/part-0.parquet"):
        pq.write_table(table, place / file)


def _hub(cache: Path, file: Path) -> Path:
    """The cache of ``huggingface_hub`` as the download of a dataset leaves it."""
    dataset, commit = cache / "datasets--OWNER--NAME", "01234567" * 5
    (dataset / "refs").mkdir(parents=True)
    (dataset / "refs" / "REVISION").write_text(commit)
    (dataset / "snapshots" / commit).mkdir(parents=True)
    shutil.copy(file, dataset / "snapshots" / commit / "data.parquet")
    return cache


def _weights(place: Path) -> dict[str, str]:
    """Files of random weights, and the variables by which commands find them instead of downloading."""
    import timm
    import torch
    import torchvision
    from safetensors.torch import save_file

    place.mkdir()
    torch.manual_seed(0)
    networks = {
        "HARNESS_RESNET18_WEIGHTS": torchvision.models.resnet18(),
        "HARNESS_VGG16_WEIGHTS": torchvision.models.vgg16().features,
        "HARNESS_TIMM_EFFICIENTNET_B0_WEIGHTS": timm.create_model("efficientnet_b0"),
    }
    found = {}
    for variable, network in networks.items():
        prefix = "features." if "VGG" in variable else ""
        file = place / f"{variable}.safetensors"
        save_file({f"{prefix}{k}": v.contiguous() for k, v in network.state_dict().items()}, file)
        found[variable] = str(file)
    return found


if __name__ == "__main__":
    if sys.argv[1] == "pick":
        print(pick(sys.argv[2]))
    else:
        sys.exit(install(Path(sys.argv[2]), sys.argv[3:]))
