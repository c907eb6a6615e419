"""Defaults: from harness.toml, from the environment, from the command line, and mistakes in them."""

import json

import pytest

from core.lines import one_line


@pytest.mark.usefixtures("site")
def test_defaults_come_from_the_file_then_the_environment_then_the_command_line(
    harness, images, tmp_path, monkeypatch
):
    def epochs(*arguments):
        status, _, errors = harness("run", "--data", f"folder={images}", *arguments, "--quiet")
        assert status == 0, errors
        newest = max((tmp_path / "runs").glob("*/spec.json"), key=lambda p: p.stat().st_mtime_ns)
        return json.loads(newest.read_text())["train"]["epochs"]

    (tmp_path / "harness.toml").write_text(
        '[run]\nepochs = 1\nbatch-size = 16\nthreads = 1\ndevice = "cpu"\nschedule = "cosine"\n'
    )
    small = ("--backbone", "small")
    assert epochs(*small) == 1
    monkeypatch.setenv("HARNESS_RUN_EPOCHS", "2")
    assert epochs(*small) == 2
    assert epochs(*small, "--epochs", "3") == 3
    specs = [json.loads(p.read_text())["train"] for p in (tmp_path / "runs").glob("*/spec.json")]
    assert len(specs) == 3
    assert {(s["batch_size"], s["schedule"]) for s in specs} == {(16, "cosine")}


@pytest.mark.parametrize("option", ["data", "schedule", "strategy", "lr", "backbone", "head", "seed"])
@pytest.mark.parametrize("place", ["environment", "file"])
@pytest.mark.usefixtures("site", "images")
def test_every_option_goes_by_its_own_name_in_the_environment_and_the_file(
    harness, option, place, tmp_path, monkeypatch
):
    if place == "environment":
        monkeypatch.setenv(f"HARNESS_RUN_{option.upper()}", "nope")
    else:
        given = '["nope"]' if option in ("strategy", "lr") else '"nope"'  # one, or a list
        (tmp_path / "harness.toml").write_text(f"[run]\n{option} = {given}\n")
    rest = {"data": "folder=images", "backbone": "squeezenet1_1", "weights": "none"}
    status, _, errors = harness("run", *(f"--{k}={v}" for k, v in rest.items() if k != option))
    assert status == 2
    assert "'nope'" in one_line(errors)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[run\n", "harness.toml"),
        ("[rnu]\nepochs = 1\n", "[rnu]"),
        ("[run]\nepochs = 'many'\n", "--epochs"),
        ("[run]\nepoch = 3\n", "did you mean 'epochs'?"),
    ],
)
def test_a_mistake_in_the_file_is_named(harness, tmp_path, text, message):
    (tmp_path / "harness.toml").write_text(text)
    status, _, errors = harness("run", "--data", "folder=nowhere")
    assert status == 2
    assert message in one_line(errors)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ("[run]\nstrategy = [5, [1]]", "'strategy' is a text or a number, or a list of them, not [1]"),
        ("[run]\nweight-decay = ['x']", "'weight-decay' is a text or a number, not ['x']"),
        ("[run]\nflip = 'x'", "'flip' is true or false, not 'x'"),
        ('[run]\nout = "\\u0000"', "'out' holds a NUL character"),
        ("[run]\nepochs = " + "9" * 5000, "can't read 'harness.toml'"),
        ("[run]\nepochs = " + "[" * 5000, "can't read 'harness.toml'"),
        ("run = 1", "'run' is a table"),
        ("[data]\nlimit = 1", "unknown command in [data]"),
        ("[data.audit]\nlimi = 1", "did you mean 'limit'"),
    ],
)
def test_a_bad_value_in_the_configuration_is_one_line(harness, tmp_path, config, text):
    (tmp_path / "harness.toml").write_text(config)
    status, output, errors = harness("run", "--data", "folder=nowhere")
    assert (status, output) == (2, "")
    assert text in one_line(errors)


def test_a_command_below_a_command_has_its_table(harness, images, tmp_path):
    (tmp_path / "harness.toml").write_text(f'[data.audit]\ndata = "folder={images}"\nquiet = true\n')
    assert harness("data", "audit")[0] == 0


def test_more_threads_than_any_machine_has_are_refused(harness):
    assert "--threads" in one_line(harness("run", "--threads", "999999999", "--plan")[2])
