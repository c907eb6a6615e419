"""A run that is stopped at any point, and the same command again: the same bits, and nothing left over."""

import random
import signal

import pytest

from core.forks import one_line

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}


@pytest.fixture(scope="module")
def whole(forks):
    """What an undisturbed run leaves, and how many changes to files that took."""
    (ended,) = forks.run({"work": "whole", "argv": forks.command()})
    assert ended.code == 0, ended.err
    assert ended.count > 60
    return forks.left("whole"), ended.count


def survive(forks, whole, faults):
    """Strikes, then gives the same command again with another number of decoding threads."""
    expected, struck = whole[0], 0
    for number, fault in enumerate(faults):
        work = f"point-{fault['signal']}-{number}-{fault.get('at', 'r')}"
        (stopped,) = forks.run({"work": work, "argv": forks.command(), "fault": fault})
        if stopped.code != 0:
            struck += 1
            assert stopped.code == CODES[fault["signal"]], (fault, stopped)
            if fault["signal"] != signal.SIGKILL:
                assert "goes on where it stopped" in one_line(stopped.err)
        (again,) = forks.run({"work": work, "argv": forks.command("--workers", str(1 + number % 3))})
        assert again.code == 0, (fault, stopped.err, again.err)
        assert forks.left(work) == expected, fault
    return struck


def test_a_run_survives_signals_at_its_writes(forks, whole):
    points = [whole[1] * (2 * i + 1) // 16 for i in range(8)]
    faults = [{"signal": s, "at": at + k} for at in points for k, s in enumerate(SIGNALS)]
    struck = survive(forks, whole, faults)
    print(f"interruption: {struck} points survived of {len(faults)}")
    assert struck >= 20


@pytest.mark.slow
@pytest.mark.campaign
def test_a_run_survives_every_signal_at_every_write_and_at_random_moments(forks, whole):
    count = whole[1]
    faults = [{"signal": s, "at": at} for s in SIGNALS for at in range(1, count + 1)]
    draw = random.Random(0)
    faults += [{"signal": s, "after": draw.uniform(0.01, 0.6)} for s in SIGNALS for _ in range(12)]
    struck = survive(forks, whole, faults)
    print(f"interruption: {struck} points survived of {len(faults)}, {count} changes to files in a run")
    assert struck >= 200


def test_a_stopped_run_says_where_it_stands(forks, whole):
    (stopped,) = forks.run(
        {"work": "says", "argv": forks.command(), "fault": {"signal": signal.SIGINT, "at": whole[1] * 3 // 4}}
    )
    assert stopped.code == 130
    lines = stopped.err.split("\n")
    lines = [line for line in lines if line]
    assert lines[-2].startswith("stopped: ")
    assert "of 2 cells are done" in lines[-2]
    assert one_line(stopped.err) == "harness: interrupted; the same command goes on where it stopped"
