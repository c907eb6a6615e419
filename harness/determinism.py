"""The promise of equal bits, tried on this machine: one cell, trained in every way that may not matter.

Every way is a command in a process of its own, as people start them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.data.faces import faces_folder
from harness.errors import HarnessError
from harness.store import RESULT, RESUME

_CELL = ("--strategy", "last_block", "--lr", "1e-3", "--flip")
_SMALL = ("--limit", "400", "--batch-size", "32")
_EPOCHS = 24  # on a quick machine fewer end before there is anything to go on from
_POLL = 0.002  # seconds
_GIVE_UP = 300.0
_MAIN = "from harness.cli import main; main()"


@dataclass(frozen=True)
class Way:
    """One way of training the cell, and the digests (sha256, hex) that came out."""

    name: str
    checkpoint: str
    predictions: str
    seconds: float


def ways(folder: Path, device: str, threads: int) -> Iterator[Way]:
    """Trains the cell in ``folder``, one way after the other; the first is what the others must equal."""
    lab = _Lab(folder, ("--device", device, "--threads", str(threads)))
    yield lab.way("alone", lambda out: lab.run(out))
    yield lab.way("alone, another process", lambda out: lab.run(out))
    others = ("--strategy", "head_only", "--lr", "1e-2", "--workers", "3")
    yield lab.way("in a grid, other decoding threads", lambda out: lab.run(out, *others))
    yield lab.way("activations in a mapped file", lambda out: lab.run(out, "--cache-budget", "0"))
    lab.run(folder / "keeping", "--keep-features")
    yield lab.way("activations kept before", lab.from_kept)
    yield lab.way("killed, and gone on", lab.interrupted)


@dataclass(frozen=True)
class _Lab:
    folder: Path
    machine: tuple[str, ...]

    @property
    def cache(self) -> dict[str, str]:
        """A cache of its own, with the drawn faces of the user's: nothing is left there."""
        cache, faces = self.folder / "cache", faces_folder()
        if not cache.exists():
            cache.mkdir()
            (cache / faces.name).symlink_to(faces.resolve(), target_is_directory=True)
        return {"HARNESS_CACHE": str(cache)}

    def way(self, name: str, train: Callable[[Path], object]) -> Way:
        out, began = self.folder / name.replace(" ", "-"), time.monotonic()
        train(out)
        digests = self._digests(out)
        return Way(name, digests["checkpoint"], digests["predictions"], time.monotonic() - began)

    def start(self, out: Path, *more: str) -> subprocess.Popen[str]:
        words = ("run", *_CELL, *_SMALL, "--epochs", str(_EPOCHS), *self.machine, "--out", str(out), *more)
        return subprocess.Popen(
            [sys.executable, "-c", _MAIN, *words],
            cwd=self.folder,  # where no harness.toml lies
            env={k: v for k, v in os.environ.items() if not k.startswith("HARNESS_RUN_")} | self.cache,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, out: Path, *more: str) -> str:
        """What it said."""
        process = self.start(out, *more)
        _, errors = process.communicate()
        if process.returncode:
            last = (errors.strip().splitlines() or [""])[-1].removeprefix("harness: ")
            raise HarnessError(f"a run of the check ended with status {process.returncode}: {last}")
        return errors

    def from_kept(self, out: Path) -> None:
        """Trains on activations that an earlier command kept."""
        if "kept from before" not in self.run(out, "--keep-features"):
            raise HarnessError("the run that was to use kept activations computed them again")

    def interrupted(self, out: Path) -> None:
        """Kills the run as soon as it has something to go on from, then gives the same command again."""
        process, ends = self.start(out), time.monotonic() + _GIVE_UP
        try:
            while process.poll() is None and not list(out.glob(f"*/{RESUME}")):
                if time.monotonic() > ends:
                    raise HarnessError(f"a run of the check trained no epoch in {_GIVE_UP:.0f} s")
                time.sleep(_POLL)
        finally:
            process.kill()
            process.communicate()
        if process.returncode != -signal.SIGKILL:
            raise HarnessError("the run that was to be killed ended before it could be")
        self.run(out)

    def _digests(self, out: Path) -> dict[str, str]:
        for file in out.glob(f"*/{RESULT}"):
            record = json.loads(file.read_text(encoding="utf-8"))
            if record["spec"]["strategy_name"] == "last_block":
                found: dict[str, str] = record["digests"]
                return found
        raise HarnessError(f"the check left no record in '{out}'")
