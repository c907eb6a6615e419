"""Caches of their own, one thread, and the small network as an installed plugin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from core.forks import Forks
from core.small import write_folder, write_plugin
from harness.cli import main

TESTS = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No cache, setting or file of the user is seen; torch's switches go back to what they were."""
    for name in [n for n in os.environ if n.startswith("HARNESS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """A process that has imported everything, to run commands in its children."""
    server = Forks(tmp_path_factory.mktemp("forks"))
    yield server
    server.close()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path with the distribution 'small-nets', which offers backbone 'small'."""
    folder = write_plugin(
        tmp_path / "site", "small-nets", {"harness.backbones": {"small": "core.small:Small"}}
    )
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "images")


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts ``python -c CODE ARGUMENTS`` in ``tmp_path``, with the small network installed."""

    def run(code: str, *arguments: object, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(tmp_path / "site"), str(TESTS), os.environ.get("PYTHONPATH", "")])
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run


@pytest.fixture
def harness(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[object, str, str]]]:
    """Runs a command line in ``tmp_path``; returns (exit status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> tuple[object, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit:
            main(list(map(str, arguments)))
        captured = capsys.readouterr()
        return exit.value.code, captured.out, captured.err

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Ray with a token, as the engine has it; the same in every test, since Ray reads it once."""
    for name, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
    }.items():
        monkeypatch.setenv(name, value)  # before it is imported
    found = pytest.importorskip("ray", reason="the extra ray isn't installed")
    yield found
    found.shutdown()
