"""Signals, closed streams and pipes of real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STUCK = """
import signal, sys, threading, time
from harness import stopping
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
stopping.watch(3)
try:
    print("ready", flush=True)
    time.sleep(60)
except (KeyboardInterrupt, stopping.Terminated) as error:
    print(type(error).__name__, flush=True)
    threading.Thread(target=time.sleep, args=(60,)).start()  # keeps the process at its end
"""


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (signal.SIGINT, "KeyboardInterrupt"),
        (signal.SIGTERM, "Terminated"),
        (signal.SIGHUP, "Terminated"),
    ],
)
def test_a_signal_ends_even_what_does_not_heed_it(number, name):
    with subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        began = time.monotonic()
        process.send_signal(number)
        assert process.stdout.readline() == f"{name}\n"
        assert process.wait(20) == 128 + number
        assert time.monotonic() - began < 15


def test_what_the_caller_ignores_stays_ignored():
    code = (
        "import os, signal; from harness import stopping; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
        "stopping.watch(None); os.kill(os.getpid(), signal.SIGHUP); print('on')"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "on\n"


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams_are_no_failure_and_no_data_file(tmp_path: Path, closed: str):
    command = f"{sys.executable} -m harness list strategies > out {closed}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, timeout=120)
    assert done.returncode == 0
    code = (
        "import os, sys; from harness import stopping; from harness.progress import Progress; "
        "stopping.open_streams(); file = open('data', 'w'); print('noise', file=sys.stderr, flush=True); "
        "os.write(2, b'noise'); Progress().say('noise'); assert not sys.stderr.isatty(); file.write('data')"
    )
    done = subprocess.run(["bash", "-c", f'{sys.executable} -c "{code}" {closed}'], cwd=tmp_path, timeout=120)
    assert done.returncode == 0
    assert (tmp_path / "data").read_text() == "data"


def test_a_reader_that_goes_away_is_no_failed_run(tmp_path: Path):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [sys.executable, "-m", "harness", "list", "strategies"]
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=tmp_path, timeout=120)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_an_interrupted_check_does_not_promise_to_go_on(tmp_path: Path):
    """Its runs are gone with it, unless --out keeps them."""
    command = [sys.executable, "-m", "harness", "check", "faces", "--threads", "1"]
    for more, said in ((), "nothing of it is kept"), (("--out", "kept"), "--reuse kept takes it"):
        with subprocess.Popen(
            [*command, *more], cwd=tmp_path, text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        ) as process:
            assert process.stderr is not None
            while "[1/" not in process.stderr.readline():
                pass
            process.send_signal(signal.SIGINT)
            rest = process.stderr.read()
            assert process.wait(60) == 130
        assert said in rest
        assert rest.splitlines()[-1] == "harness: interrupted"
