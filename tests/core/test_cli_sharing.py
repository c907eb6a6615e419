"""What cells share, on the command line: the plan beforehand, what is kept between commands."""

import re


def test_a_plan_is_printed_and_nothing_is_trained(harness, site, images, tmp_path):
    status, output, _ = harness("run", "--data", f"folder={images}", "--backbone", "small", "--plan")
    assert status == 0
    assert "frozen prefix small block1..pool at 32 px: 60 images x 1 view" in output
    assert not (tmp_path / "runs").exists()


def test_kept_features_are_listed_and_removed(harness, site, images, tmp_path):
    words = ["run", "--data", f"folder={images}", "--backbone", "small", "--epochs", "1", "--keep-features"]
    assert harness(*words)[0] == 0
    status, output, _ = harness("cache", "ls")
    assert status == 0
    name = re.search(
        r"^([0-9a-f]{24}) +0\.0 MiB +60 images +small block1\.\.pool at 32 px, plain", output, re.M
    )[1]
    status, _, errors = harness("cache", "rm", "nothing")
    assert status == 2
    assert errors.startswith("harness: nothing called 'nothing' is kept")
    assert harness("cache", "rm")[0] == 2
    status, output, _ = harness("cache", "rm", name)
    assert status == 0
    assert output.startswith(f"removed {name}")
    assert name not in harness("cache", "ls")[1]
    assert harness("cache", "rm", "--all")[0] == 0
    assert harness("cache", "ls")[1] == ""


def test_what_a_killed_run_left_is_shown_and_removed(harness, tmp_path):
    draft = tmp_path / "cache" / "features" / ".draft-abc"
    draft.mkdir(parents=True)
    (draft / "rows.bin").write_bytes(b"x" * 2**20)
    assert re.search(r"\.draft-abc +1\.0 MiB +unfinished", harness("cache", "ls")[1])
    assert harness("cache", "rm", "--unfinished")[1] == "removed .draft-abc, 1.0 MiB\n"
    assert not draft.exists()
