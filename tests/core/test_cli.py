"""The command line: its help, its errors, its exit statuses."""

import json
import os
import re
import signal
import subprocess
import sys
import threading

import pytest

from core.lines import one_line
from core.small import write_plugin
from harness.cli import COMMANDS, main
from harness.data.faces import write_faces

SMALL = ("--backbone", "small", "--epochs", "1", "--batch-size", "16", "--threads", "1", "--device", "cpu")


# --------------------------------------------------------------------------- help


def test_help_is_there_at_once():
    code = (
        "import sys, time, atexit\n"
        "def report():\n"
        "    heavy = {'torch', 'torchvision', 'timm', 'numpy', 'scipy', 'sklearn', 'matplotlib'}\n"
        "    print('IMPORTED', sorted(heavy & set(sys.modules)), time.process_time(), file=sys.stderr)\n"
        "atexit.register(report)\n"
        "from harness.cli import main; main(['--help'])"
    )
    times = []
    for _ in range(3):
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "Commands:" in found.stdout
        imported, seconds = re.search(r"IMPORTED (\[.*\]) (\S+)", found.stderr).groups()
        assert imported == "[]"
        times.append(float(seconds))
    # 0.3 s on an idle machine; this one may be busy.
    assert min(times) < 0.6


def test_a_run_imports_torch_and_nothing_else_that_takes_long(tmp_path):
    """What it needs of the others is a few lines; their import takes longer than to train a head."""
    write_faces(tmp_path / "images", (32, 8, 8))
    words = ["run", "--data", f"celeba={tmp_path / 'images'}", "--split", "official", "--epochs", "1"]
    words += [
        "--target",
        "Smiling",
        "--backbone",
        "vgg_tiny",
        "--strategy",
        "head_only",
        "--strategy",
        "last_block",
        "--quiet",
    ]
    code = (
        "import sys, os, atexit\n"
        "def report():\n"
        "    heavy = {'torchvision', 'torch._dynamo', 'timm', 'sklearn', 'pandas', 'matplotlib', 'sympy'}\n"
        "    print('IMPORTED', sorted(heavy & set(sys.modules)), os.environ['GOMP_SPINCOUNT'])\n"
        "atexit.register(report)\n"
        f"from harness.cli import main; main({[*words, '--out', str(tmp_path / 'runs')]!r})"
    )
    env = {**os.environ, "HARNESS_CACHE": str(tmp_path / "cache")}
    for given, expected in (({}, "1000"), ({"GOMP_SPINCOUNT": "77"}, "77")):
        found = subprocess.run(
            [sys.executable, "-c", code], env=env | given, capture_output=True, text=True, check=True
        )
        assert f"IMPORTED [] {expected}" in found.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(harness, command):
    status, output, _ = harness(command, "--help")
    assert status == 0
    assert re.search(rf"Examples?:\s+harness {command}", output)


@pytest.mark.parametrize(
    "words",
    [
        "list strategies",
        "list backbones",
        "list datasets",
        "list suites",
        "new strategy",
        "new backbone",
        "new dataset",
        "data audit",
        "runs ls",
        "runs rm",
        "cache ls",
        "cache rm",
    ],
)
def test_so_has_every_command_below_a_command(harness, words):
    status, output, _ = harness(*words.split(), "--help")
    assert status == 0
    assert f"Example: harness {words}" in " ".join(output.split())


def test_help_names_every_command(harness):
    status, output, _ = harness("--help")
    assert status == 0
    assert all(re.search(rf"^  {name} ", output, re.MULTILINE) for name in COMMANDS)
    assert "Example: harness run" in output


def test_the_version(harness):
    status, output, _ = harness("--version")
    assert status == 0
    assert re.search(r"harness, version \d+\.\d+", output)


# --------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("rnu", "did you mean 'run'"),
        ("run --strateg full", "--strategy"),
        ("run --schedule cosin", "'cosine'"),
        ("run --lr fast", "bad lr 'fast'"),
        ("run --lr 1e-3 --lr 0", "bad lr '0'"),
        ("run --lr 1e-5:1e-2", "bad lr '1e-5:1e-2'"),
        ("run --lr 1:2:1e9", "at most 10000 rates"),
        ("run --strategy auto_snr[threshold=nan]", "not a finite number"),
        ("run --epochs 0", "--epochs"),
        ("run --processes 1111111111111111111", "--processes"),
        ("run --weight-decay inf", "not a finite number"),
        ("run --plan --gpus 2 --tflops nan", "not a finite number"),
        ("run --plan --gpus 2 --price nan", "not a finite number"),
        ("export x --to hf --tolerance nan", "not a finite number"),  # nothing is further off than that
        ("bands faces --coverage nan", "not a finite number"),
        ("run --seed -1", "--seed"),
        ("run --limit many", "--limit"),
        ("run --suite celeba30", "did you mean 'celeba30k'"),
        ("run --data foldr=images", "did you mean 'folder'"),
        ("run --data =images", "--data '=images'"),
        ("run --data folder=", "--data 'folder='"),
        ("run --data folder", "--data folder=PATH"),
        ("run --data folder=images --strategy head_onyl", "did you mean 'head_only'"),
        ("run --data folder=images --strategy last_k[kk=1]", "did you mean 'k'"),
        ("run --data folder=images --strategy last_k[k=two]", "'two' is not a int"),
        ("run --data folder=images --backbone smal", "did you mean 'small'"),
        ("run --data folder=images --backbone torchvision:resnet81", "did you mean 'resnet18'"),
        ("run --data folder=images --backbone squeezenet1_1 --weights none --head mlp[0]", "head 'mlp[0]'"),
        ("run --data folder=images --backbone squeezenet1_1 --weights none", "--allow-random-frozen"),
        ("run --data folder=images --target Smiling", "'Smiling'"),
        ("run --data folder=images --device tpu", "unknown device 'tpu'"),
        ("run --backbone small --backbone vgg16 --weights x.pth", "--weights 'x.pth'"),
        ("show nothing", "'nothing'"),
        ("runs rm nothing", "'nothing'"),
        ("runs rm", "--unfinished"),
        ("report nowhere", "'nowhere'"),
        ("list strateges", "strategies"),
    ],
)
@pytest.mark.usefixtures("site", "images")
def test_a_mistake_in_the_command_is_one_line_and_status_2(harness, arguments, text, tmp_path):
    status, output, errors = harness(*arguments.split())
    assert status == 2
    assert text in one_line(errors)
    assert output == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("run --data folder=nowhere", "nowhere"),
        ("run --data table=list.csv", "list.csv"),
        ("run --data celeba=nowhere", "nowhere"),
        ("run --data folder=images --backbone squeezenet1_1 --weights absent.pth", "'absent.pth'"),
        ("run --data folder=images --backbone squeezenet1_1 --weights garbage.pth", "'garbage.pth'"),
        ("show runs/broken", "result.json"),
    ],
)
@pytest.mark.usefixtures("site", "images")
def test_bad_data_and_weights_are_one_line_and_status_3(harness, arguments, text, tmp_path):
    (tmp_path / "garbage.pth").write_bytes(b"garbage")
    (tmp_path / "runs" / "broken").mkdir(parents=True)
    (tmp_path / "runs" / "broken" / "result.json").write_text("{")
    status, output, errors = harness(*arguments.split())
    assert status == 3
    assert text in one_line(errors)
    assert output == ""
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["broken"]


def test_a_traceback_is_there_when_asked_for(harness):
    from harness.errors import UsageError

    with pytest.raises(UsageError, match="bad lr"):
        main(["--debug", "run", "--lr", "fast"])


@pytest.mark.parametrize("words", ["", "list", "new", "runs"])
def test_a_group_without_a_command_shows_its_help(harness, words):
    status, output, errors = harness(*words.split())
    assert status in (0, 2)
    assert "Commands:" in output + errors


# --------------------------------------------------------------------------- runs


@pytest.fixture
def finished(harness, site, images):
    status, output, errors = harness(
        "run", "--data", f"folder={images}", *SMALL, "--lr", "1e-2", "--lr", "1e-3"
    )
    assert status == 0, errors
    return output, errors


def test_a_run_ends_with_a_table_and_can_be_looked_at(harness, finished, tmp_path):
    output, errors = finished
    folders = sorted(p.name for p in (tmp_path / "runs").iterdir())
    assert len(folders) == 2
    assert re.search(
        r"small head_only lr=0\.01 seed=0 +\d+\.\d\d % \[\d+\.\d\d, \d+\.\d\d\] +[01]\.\d{4}", output
    )
    assert all(name in output for name in folders)
    assert "harness report" in output
    assert "epochs" not in output, "progress belongs to standard error"
    assert "[1/2] head_only lr=0.01 seed=0: validation accuracy" in errors

    status, output, _ = harness("runs", "ls")
    assert status == 0
    assert [line.split()[0] for line in output.splitlines()] == ["done", "done"]
    assert [line.split()[-1] for line in output.splitlines()] == folders

    for name in (folders[0], folders[0][-10:], f"runs/{folders[0]}"):
        status, output, _ = harness("show", name)
        assert status == 0
        assert output.startswith(folders[0])
        assert "block1" in output
    status, output, _ = harness("show", folders[0], "--json")
    assert json.loads(output)["run"] == folders[0]

    status, output, _ = harness("runs", "rm", folders[0][-10:])
    assert status == 0
    assert [p.name for p in (tmp_path / "runs").iterdir()] == [folders[1]]


def test_the_second_time_everything_is_done_before(harness, finished, images):
    status, output, _ = harness("run", "--data", f"folder={images}", *SMALL, "--lr", "1e-2", "--lr", "1e-3")
    assert status == 0
    assert output.count("done before") == 2


@pytest.mark.usefixtures("site")
def test_a_cell_that_fails_gives_status_1_and_its_reason(harness, images, tmp_path):
    status, output, errors = harness(
        "run",
        "--data",
        f"folder={images}",
        *SMALL,
        "--epochs",
        "2",
        "--lr",
        "1e30",
        "--lr",
        "1e-2",
        "--quiet",
    )
    assert status == 1
    assert "diverged" in output
    assert "Traceback" not in output + errors
    assert re.search(r"lr=0\.01 seed=0 +\d", output)
    status, output, _ = harness("runs", "ls")
    assert sorted(line.split()[0] for line in output.splitlines()) == ["done", "failed"]
    failed = next(line.split()[-1] for line in output.splitlines() if line.startswith("failed"))
    status, output, _ = harness("show", failed)
    assert status == 0
    assert "diverged" in output
    status, output, _ = harness("runs", "rm", "--unfinished")
    assert output.split() == ["removed", failed]


def test_runs_ls_of_an_empty_folder(harness):
    status, output, errors = harness("runs", "ls")
    assert (status, output) == (0, "")
    assert "no runs" in errors


def test_a_locked_cell_gives_status_4_when_not_to_be_waited_for(harness, finished, images, tmp_path, start):
    names = [p.name for p in (tmp_path / "runs").iterdir()]
    for name in names:
        (tmp_path / "runs" / name / "result.json").unlink()
    code = (
        "import sys; from filelock import FileLock\n"
        "lock = FileLock(sys.argv[1]); lock.acquire(); print(1, flush=True); input()"
    )
    other = start(code, tmp_path / "runs" / names[0] / ".lock")
    try:
        assert other.stdout.readline() == "1\n"
        arguments = ("run", "--data", f"folder={images}", *SMALL, "--lr", "1e-2", "--lr", "1e-3", "--quiet")
        status, _, errors = harness(*arguments, "--no-wait")
        assert status == 4
        assert names[0] in one_line(errors)
    finally:
        other.kill()
        other.communicate()
    assert not (tmp_path / "runs" / names[0] / "result.json").exists()
    assert (tmp_path / "runs" / names[1] / "result.json").exists()


# --------------------------------------------------------------------------- list, doctor


@pytest.mark.usefixtures("site")
def test_lists(harness):
    status, output, _ = harness("list", "strategies")
    assert status == 0
    assert re.search(r"^head_only +transfer-harness +\S", output, re.MULTILINE)
    status, output, _ = harness("list", "backbones")
    assert re.search(r"^small +small-nets$", output, re.MULTILINE)
    assert "torchvision:NAME" in output
    status, output, _ = harness("list", "backbones", "--match", "vgg1?")
    assert "torchvision:vgg16" in output.split()
    assert "timm:vgg16" in output.split()
    assert not any("resnet" in name for name in output.split())
    status, output, _ = harness("list", "suites")
    assert [line.split()[0] for line in output.splitlines()][:2] == ["celeba", "celeba30k"]


def test_a_broken_plugin_is_shown_as_broken_among_the_others(harness, tmp_path, monkeypatch):
    write_plugin(tmp_path / "bad", "bad-plugin", {"harness.strategies": {"aaa": "no_such_module:X"}})
    monkeypatch.syspath_prepend(tmp_path / "bad")
    status, output, _ = harness("list", "strategies")
    assert status == 0
    assert re.search(r"^aaa +bad-plugin +broken: .*no_such_module", output, re.MULTILINE)
    assert re.search(r"^head_only +transfer-harness", output, re.MULTILINE)


def test_a_broken_plugin_keeps_no_other_from_running(harness, images, tmp_path, monkeypatch, site):
    points = {
        "harness.strategies": {"aaa": "no_such_module:X"},
        "harness.backbones": {"bbb": "no_such_module:X"},
        "harness.datasets": {"ccc": "no_such_module:X"},
    }
    monkeypatch.syspath_prepend(write_plugin(tmp_path / "bad", "bad-plugin", points))
    assert harness("run", "--data", f"folder={images}", *SMALL)[0] == 0
    for given in (
        ("--data", f"folder={images}", "--strategy", "aaa"),
        ("--data", f"folder={images}", "--backbone", "bbb"),
        ("--data", "ccc=here", "--backbone", "small"),
    ):
        status, _, errors = harness("run", *given)
        assert status == 2
        assert re.search(r"of package bad-plugin can't be loaded: .*no_such_module", one_line(errors))


def test_two_packages_that_claim_one_name_are_named(harness, tmp_path, monkeypatch):
    for package in ("first-plugin", "second-plugin"):
        points = {"harness.strategies": {"same": f"{package[:5]}:X"}}
        monkeypatch.syspath_prepend(write_plugin(tmp_path / package, package, points))
    for words, expected in (
        ("list strategies", 0),  # what is wrong with one name keeps nobody from the others
        ("run --data folder=nowhere --strategy same", 2),
        ("new strategy same", 2),
    ):
        status, _, errors = harness(*words.split())
        assert status == expected
        assert re.search(r"'same': .*(first|second)-plugin .* and (first|second)-plugin", errors)
        assert errors.count("\n") == 1


def test_doctor_says_what_there_is_and_what_is_missing(harness, tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_VGG16_WEIGHTS", "nowhere.safetensors")
    status, output, _ = harness("doctor")
    assert status == 0
    assert re.search(r"^device +(cpu|cuda|mps)", output, re.MULTILINE)
    assert re.search(r"^torch +\d", output, re.MULTILINE)
    assert re.search(r"^strategy +.*head_only", output, re.MULTILINE)
    assert str(tmp_path / "cache") in output
    assert re.search(r"^HARNESS_CELEBA_ROOT +not set; get CelebA", output, re.MULTILINE)
    assert "nowhere.safetensors (missing: no such file)" in output


# --------------------------------------------------------------------------- signals


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.usefixtures("site")
def test_a_signal_ends_a_run_which_then_can_go_on(harness, images, tmp_path, number, expected):
    # It is ignored where a shell began the tests in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ended = threading.Event()

    def send():
        """Once the run has something to go on from."""
        while not ended.wait(0.02):
            if list((tmp_path / "runs").glob("*/resume.safetensors")):
                os.kill(os.getpid(), number)
                return

    sender = threading.Thread(target=send)
    sender.start()
    try:
        status, output, errors = harness("run", "--data", f"folder={images}", *SMALL, "--epochs", "100000")
    finally:
        ended.set()
        sender.join()
    assert status == expected
    assert output == ""
    last = errors.strip().splitlines()[-1]
    assert last.startswith("harness: ")
    assert "goes on where it stopped" in last
    assert "Traceback" not in errors
    (folder,) = (tmp_path / "runs").iterdir()
    assert {p.name for p in folder.iterdir()} - {".lock"} == {
        "spec.json", "history.jsonl", "resume.safetensors",
    }  # fmt: skip
    # Nobody holds the folder any more.
    assert harness("runs", "rm", "--unfinished")[0] == 0
    assert not folder.exists()
