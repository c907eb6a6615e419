"""Makes ``docs/example-report``: ``python docs/example_report.py`` from the root of the repository.

It trains a grid on the embedded sample, adds heat maps, writes the report and, where there is a
Chromium, takes the screenshot of the README. With ``--check`` nothing is changed: the report is made in
a temporary folder and held against the committed one, but for what a clock or a machine says.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent / "example-report"
GRID = [
    "run", "--strategy", "head_only", "--strategy", "last_block", "--strategy", "full", "--lr", "1e-5:1e-2:4",
    "--seed", "0", "--seed", "1", "--threads", "1", "--out", "runs",
]  # fmt: skip
REPORT = ["report", "runs", "--images", "embed", "--title", "What to train, and how fast", "--out", "report"]

# What differs from one making to the next: name -> pattern.
SCRUBS = {
    "seconds": r"\b\d+(\.\d+)? s\b|\b\d+ min \d\d s\b|data-sort=\"[\d.]+\"",
    "started and finished": r"\d{4}-\d\d-\d\dT[\d:]+\+00:00",
    "machine and versions": r"All runs: [^\n]*",
    "memory": r"\b[\d.]+ [KMG]iB\b",
    "rates": r"\b[\d,.]+ images/s|[\d,]+ images a second",
    "costs": r"(?s)(<section aria-labelledby=\"e1-costs\">|## Cost and accuracy).*?(</section>|\n## )",
}
CLOCKED = ("experiment-1-costs.svg",)  # figures of seconds


def harness(*words: str, folder: Path) -> None:
    """A command, as a user gives it in ``folder``: so no path of this machine is in a record."""
    code = "import sys; from harness.cli import main; sys.exit(main())"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code, *words], cwd=folder, check=True, env=environment)


def make(work: Path) -> Path:
    """The report in ``work``; runs that are there already are not trained again."""
    harness(*GRID, folder=work)
    harness("explain", "runs", folder=work)
    harness(*REPORT, folder=work)
    return work / "report"


def screenshot(page: Path, target: Path) -> None:
    """The top of the page as a small PNG."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("no Chromium: the screenshot stays as it was")
        return
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             "--hide-scrollbars", f"--user-data-dir={profile}", f"--screenshot={target.resolve()}",
             "--window-size=1280,1500", page.resolve().as_uri()],
            check=True, capture_output=True,
        )  # fmt: skip
    with Image.open(target) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(target, optimize=True)


def differences(made: Path, kept: Path) -> Iterator[str]:
    """What is in one report and not in the other, scrubbed."""
    names = {p.relative_to(f).as_posix() for f in (made, kept) for p in f.rglob("*") if p.is_file()}
    for name in sorted(names - {"screenshot.png", *(f"report_files/{clocked}" for clocked in CLOCKED)}):
        if not (made / name).exists() or not (kept / name).exists():
            yield f"{name} is in only one of them"
        elif _scrubbed(made / name) != _scrubbed(kept / name):
            yield f"{name} differs"


def _scrubbed(file: Path) -> bytes:
    content = file.read_bytes()
    if file.suffix in (".html", ".md"):
        text = content.decode()
        for pattern in SCRUBS.values():
            text = re.sub(pattern, "", text)
        return text.encode()
    return content


def main() -> int:
    """Makes the report, or checks it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--check", action="store_true", help="change nothing; exit 1 where it differs")
    options.add_argument("--work", type=Path, help="folder for the runs; those in it are taken as they are")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        made = make(work)
        if given.check:
            found = list(differences(made, HERE))
            print("\n".join(found) or "the same, but for times and machine")
            return 1 if found else 0
        if HERE.exists():
            shutil.rmtree(HERE)
        shutil.copytree(made, HERE)
    screenshot(HERE / "index.html", HERE / "screenshot.png")
    print(f"{HERE}: {sum(p.stat().st_size for p in HERE.rglob('*') if p.is_file()) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
