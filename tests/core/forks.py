"""The tests' side of the fork server, and what a command must leave however it came about."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from core.small import write_folder, write_plugin

TESTS = Path(__file__).parents[1]
CELLS = ("--backbone", "small", "--strategy", "last_block", "--strategy", "linear_probe", "--lr", "1e-2",
         "--epochs", "3", "--batch-size", "16", "--limit", "40", "--threads", "1", "--device", "cpu",
         "--keep-features", "--out", "runs")  # fmt: skip


class Ended(NamedTuple):
    code: int
    out: str
    err: str
    count: int  # changes to files


class Forks:
    """A running fork server and the images that its commands train on."""

    def __init__(self, root: Path) -> None:
        self.root = root
        site = write_plugin(
            root / "site",
            "small-nets",
            {"harness.backbones": {"small": "core.small:Small", "grouped": "core.small:Grouped"}},
        )
        self.images = write_folder(root / "images")
        path = os.pathsep.join([str(site), str(TESTS), os.environ.get("PYTHONPATH", "")])
        own = {k: v for k, v in os.environ.items() if not k.startswith("HARNESS_")}
        self.process = subprocess.Popen(
            [sys.executable, str(TESTS / "core" / "fork_server.py"), str(root), json.dumps(self.command())],
            env={**own, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def run(self, *requests: dict) -> list[Ended]:
        """Commands that run at once: ``work`` (a folder's name), ``argv``, perhaps ``fault``, ``env``."""
        given = [r | {"work": str(self.root / r["work"])} for r in requests]
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(given) + "\n")
        self.process.stdin.flush()
        answers = json.loads(self.process.stdout.readline())
        return [Ended(a["code"], a["out"], a["err"], int(a["count"] or 0)) for a in answers]

    def command(self, *more: str) -> list[str]:
        return ["run", "--data", f"folder={self.images}", *CELLS, *more]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def left(self, work: str) -> dict[str, object]:
        """Everything below a folder of runs that must not depend on how it came about."""
        found: dict[str, object] = {}
        for file in sorted((self.root / work / "runs").rglob("*")):
            name = str(file.relative_to(self.root / work))
            if file.name == "history.jsonl":
                rows = [json.loads(line) for line in file.read_text().splitlines()]
                found[name] = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
            elif file.name == "result.json":
                record = json.loads(file.read_text())
                keys = ("run", "status", "digests", "test", "val", "selected_epoch", "backbone", "error")
                found[name] = {k: record[k] for k in keys}
            elif file.name != ".lock":
                found[name] = file.read_bytes() if file.is_file() else None
        return found


def one_line(errors: str) -> str:
    """The last line, which says what happened; what comes before is progress, never a traceback."""
    assert "Traceback" not in errors, errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith("harness: "), errors
    return last
