"""Every command that the documentation shows is one that the command line understands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from harness.cli import COMMANDS, cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(text: str) -> list[str]:
    """The ``harness ...`` commands of fenced shell blocks, continuation lines joined, comments dropped."""
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    parts = [part.strip() for line in lines for part in re.split(r"&&|;", line.split("  #")[0])]
    return [re.sub(r"^(\w+=\S+ )+", "", p) for p in parts if re.match(r"^(\w+=\S+ )*harness( |$)", p)]


def shown() -> list[tuple[str, str]]:
    found = [(page.name, command) for page in PAGES for command in commands(page.read_text("utf-8"))]
    for name in COMMANDS:
        epilog = cli.get_command(click.Context(cli), name).epilog or ""  # type: ignore[union-attr]
        texts = re.split(r"\n|&&|;|Example: ", epilog)
        found += [(f"harness {name} --help", t.strip()) for t in texts if t.strip().startswith("harness ")]
    return found


@pytest.mark.parametrize(("where", "command"), shown())
def test_a_shown_command_parses(where: str, command: str) -> None:
    words = shlex.split(command.split(" > ")[0], comments=True)[1:]
    node: click.Command = cli
    context = click.Context(cli, info_name="harness")
    while isinstance(node, click.Group):
        name, sub, words = node.resolve_command(context, words)
        assert sub is not None, f"{where}: no command {name}"
        node, context = sub, click.Context(sub, parent=context, info_name=name)
    node.make_context(context.info_name, words, parent=context.parent)


def test_the_readme_begins_with_the_three_commands() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), flags=re.S)
    assert [b.strip() for b in blocks[:3]] == [
        "python -m pip install . && harness run --strategy head_only --lr 1e-3 && harness report",
        "python -m pip install tox && tox",
        "harness run --suite celeba30k --data celeba30k=PATH",
    ]


def test_every_command_and_strategy_is_in_the_readme() -> None:
    from harness import plugins

    text = (ROOT / "README.md").read_text("utf-8")
    assert [c for c in COMMANDS if f"harness {c}" not in text] == []
    assert [s for s in plugins.find(plugins.STRATEGIES) if f"`{s}" not in text] == []


def test_the_page_of_strategies_is_what_the_plugins_say() -> None:
    """``harness list strategies --markdown > docs/strategies.md`` makes it again."""
    from harness import plugins
    from harness.commands.list import strategies_page

    own = [n for n, f in plugins.find(plugins.STRATEGIES).items() if f.package == "transfer-harness"]
    assert (ROOT / "docs" / "strategies.md").read_text("utf-8") == strategies_page(own)


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_no_page_names_a_path_of_one_machine() -> None:
    for page in PAGES:
        assert not re.search(r"(^|[\s`=\"'(])/(home|root|tmp|work)/", page.read_text("utf-8")), page.name
