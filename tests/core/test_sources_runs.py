"""Whole runs on images that lie in other files: the same bits, and every command that looks at images."""

from __future__ import annotations

import base64
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from PIL import Image

from harness.data.folder import Folder
from harness.store import RunFolder

datasets = pytest.importorskip("datasets")

ASKED = ["--backbone", "small", "--strategy", "head_only", "--strategy", "last_block", "--lr", "1e-2",
         "--epochs", "1", "--flip", "--threads", "1", "--device", "cpu", "--quiet"]  # fmt: skip
DIGESTS = ("data", "split", "weights", "checkpoint", "predictions")


def as_parquet(images: Path, file: Path, rows_a_group: int = 10) -> Path:
    table = Folder().read(images, target=None, missing="error")
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=list(table.class_names))
    )
    data = [{"bytes": Path(p).read_bytes(), "path": i} for p, i in zip(table.paths, table.ids, strict=True)]
    rows = datasets.Dataset.from_dict({"image": data, "label": table.labels.tolist()}, features=features)
    file.parent.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(file, batch_size=rows_a_group)
    return file


def as_tar(images: Path, where: Path) -> Path:
    """Two shards."""
    table = Folder().read(images, target=None, missing="error")
    where.mkdir()
    for number, rows in enumerate((range(25), range(25, len(table)))):
        with tarfile.open(where / f"red-{number:02d}.tar", "w") as archive:
            for i in rows:
                name = table.class_names[table.labels[i]].encode()
                parts = {
                    table.ids[i]: Path(table.paths[i]).read_bytes(),
                    table.ids[i].replace(".png", ".cls"): name,
                }
                for member, data in parts.items():
                    info = tarfile.TarInfo(member)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    return where


def bits(runs: Path) -> dict[str, list[str]]:
    found = [RunFolder(path).result() for path in sorted(runs.iterdir()) if path.is_dir()]
    assert all(record["status"] == "done" for record in found)
    return {
        f"{r['spec']['strategy']}": [r["digests"][name] for name in DIGESTS]
        for r in found
    }  # fmt: skip


@pytest.mark.usefixtures("site")
def test_the_same_images_train_the_same_bits(
    harness: Callable[..., tuple[object, str, str]], tmp_path: Path, images: Path
) -> None:
    """Folder, Parquet and shards; with room for the decoded images and without."""
    parquet, shards = as_parquet(images, tmp_path / "red.parquet"), as_tar(images, tmp_path / "shards")
    expected = None
    for name, path, more in (
        ("folder", images, []),
        ("hf", parquet, []),
        ("webdataset", f"{shards}/red-{{00..01}}.tar", []),
        ("hf", parquet, ["--cache-budget", "1K", "--workers", "3"]),
    ):
        out = tmp_path / f"runs-{name}{len(more)}"
        status, text, error = harness("run", "--data", f"{name}={path}", *ASKED, "--out", out, *more)
        assert status == 0, error + text
        expected = expected or bits(out)
        assert len(expected) == 2
        assert bits(out) == expected, name
    print(f"{len(DIGESTS)} digests of 2 cells equal from folder, Parquet and shards")


def _report_and_rerun(harness: Callable[..., tuple[object, str, str]], tmp_path: Path) -> None:
    status, text, error = harness("report", "runs", "--images", "embed")
    assert status == 0, error
    page = (tmp_path / "report" / "index.html").read_text("utf-8")
    shown = [base64.b64decode(s) for s in re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page)]
    assert shown, "the mistakes are shown"
    for jpeg in shown:
        Image.open(io.BytesIO(jpeg)).verify()
    run = next(p for p in (tmp_path / "runs").iterdir() if p.is_dir())
    status, text, error = harness("rerun", run, "--out", "again")
    assert status == 0, text + error


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("name", ["hf", "webdataset"])
def test_commands_that_look_at_images(
    harness: Callable[..., tuple[object, str, str]], tmp_path: Path, images: Path, name: str
) -> None:
    path = as_parquet(images, tmp_path / "red.parquet") if name == "hf" else as_tar(images, tmp_path / "tars")
    data = f"{name}={path}"
    assert harness("run", "--data", data, *ASKED, "--out", "runs")[0] == 0
    assert harness("data", "audit", "--data", data)[0] == 0
    status, text, error = harness("verify", "runs", "--images")
    assert status == 0, text + error
    if name == "hf":
        _report_and_rerun(harness, tmp_path)
    shard = path if name == "hf" else next(iter(sorted(path.iterdir())))
    changed = bytearray(shard.read_bytes())
    at = changed.index(b"IDAT") + 8
    changed[at] ^= 1
    shard.write_bytes(bytes(changed))
    assert harness("verify", "runs", "--images")[0] != 0, "a flipped byte of an image is found"


class _Hub(BaseHTTPRequestHandler):
    """What ``snapshot_download`` asks of the Hub, for one dataset of one commit."""

    commit = "0123456789abcdef0123456789abcdef01234567"

    def __init__(self, files: dict[str, bytes], *args: object) -> None:
        self.files = files
        super().__init__(*args)  # type: ignore[arg-type]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        body, found = b"{}", True
        if path.startswith("/api/datasets/us/red/revision/") or path == "/api/datasets/us/red":
            listed = [{"rfilename": name} for name in self.files]
            body = json.dumps({"id": "us/red", "sha": self.commit, "siblings": listed}).encode()
        elif path.startswith("/api/datasets/us/red/tree/"):
            listed = [
                {"type": "file", "path": n, "size": len(d), "oid": n} for n, d in self.files.items()
            ]  # fmt: skip
            body = json.dumps(listed).encode()
        elif path.startswith("/datasets/us/red/resolve/") and path.split("/", 6)[-1] in self.files:
            body = self.files[path.split("/", 6)[-1]]
        else:
            found = False
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("ETag", f'"{abs(hash(body)):x}"')
        if not found:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def hub(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Hub on this machine that holds ``us/red``; its address."""
    files = {
        "data/all-00000-of-00001.parquet": as_parquet(images, tmp_path / "hub.parquet").read_bytes(),
        "README.md": b"---\nlicense: cc0-1.0\n---\n# Red\n",
        "notes.txt": b"not asked for",
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Hub, files))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


READ = """
import json, sys
from pathlib import Path
from harness.data.prepare import prepare_data
from harness.errors import HarnessError
from harness.spec import DataSpec
for name in sys.argv[1:]:
    try:
        data = prepare_data(DataSpec("hub"), Path(name), 1)
        card = data.table.card
        print(json.dumps([data.digest, card.url, card.license, data.table.paths[0]]))
    except HarnessError as error:
        print(json.dumps(str(error)))
"""


def test_a_dataset_of_the_hub(start: Callable[..., object], tmp_path: Path, images: Path, hub: str) -> None:
    """Downloaded when asked, its commit recorded; without a network what is there, else one line."""
    from harness.data.prepare import prepare_data
    from harness.spec import DataSpec

    def read(*names: str, **env: str) -> list[object]:
        places = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub, "HF_HUB_DISABLE_XET": "1"}
        out, error = start(READ, *names, env=places | env).communicate(timeout=60)  # type: ignore[attr-defined]
        assert len(out.splitlines()) == len(names), error
        return [json.loads(line) for line in out.splitlines()]

    first, blue, other, red = read("us/red@main", "us/blue", "us/red/other", "red")
    expected = prepare_data(DataSpec("folder"), images, 1).digest
    url = f"https://huggingface.co/datasets/us/red/tree/{_Hub.commit}"
    assert isinstance(first, list), first
    assert first[:3] == [expected, url, "cc0-1.0"]
    assert not list((tmp_path / "hf").rglob("notes.txt"))
    assert "hub=us/blue: can't be downloaded" in str(blue)
    assert "no Parquet files" in str(other)
    assert "bad --data hub=red" in str(red)
    again, absent = read("us/red@main", "us/green", HF_ENDPOINT="http://127.0.0.1:9")  # nobody answers
    assert again == first, "from the cache"
    assert "hub=us/green: can't be downloaded (no network" in str(absent)
