"""Every command that the documentation shows is one that the command line understands."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import yaml

from harness.cli import COMMANDS, cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *(p for p in sorted(DOCS.rglob("*.md")) if "example-report" not in p.parts)]


@pytest.fixture(scope="module")
def generated() -> dict[str, Callable[[], str]]:
    """The pages that the site makes from the code: address -> what writes it."""
    spec = importlib.util.spec_from_file_location("site_reference", DOCS / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PAGES


def commands(text: str) -> list[str]:
    """The ``harness ...`` commands of fenced shell blocks, continuation lines joined, comments dropped."""
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    parts = [part.strip() for line in lines for part in re.split(r"&&?|;", line.split("  #")[0])]
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


def test_links_between_pages_lead_somewhere(generated: dict[str, Callable[[], str]]) -> None:
    made = {(DOCS / address).resolve() for address in generated}
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            there = (page.parent / target).resolve()
            # The README is read where there is no site.
            assert there.exists() or (page.name != "README.md" and there in made), f"{page.name}: {target}"


def test_every_page_is_in_the_navigation_once(generated: dict[str, Callable[[], str]]) -> None:
    def pages(node: object) -> list[str]:
        if isinstance(node, str):
            return [node]
        children = node.values() if isinstance(node, dict) else node
        return [page for child in children for page in pages(child)]  # type: ignore[attr-defined]

    shown = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"])
    assert sorted(shown) == sorted([*(str(p.relative_to(DOCS)) for p in PAGES[1:]), *generated])


def test_the_reference_has_every_command_option_plugin_and_status(
    generated: dict[str, Callable[[], str]],
) -> None:
    from harness import errors, plugins

    text = generated["reference/cli.md"]()
    context = click.Context(cli, info_name="harness")
    for name in COMMANDS:
        section = text[text.index(f"\n## harness {name}\n") :].split("\n## ")[1]
        nodes = [cli.get_command(context, name)]
        if isinstance(nodes[0], click.Group):
            nodes += nodes[0].commands.values()
        for option in (p for node in nodes for p in node.params if isinstance(p, click.Option)):  # type: ignore[union-attr]
            assert all(o in section for o in option.opts), f"{name} {option.opts}"
    listed = generated["reference/plugins.md"]()
    for group in plugins.KINDS:
        for name, found in plugins.find(group).items():
            if group != plugins.STRATEGIES and found.package == "transfer-harness":
                assert f"| `{name}` |" in listed
    statuses = generated["reference/exit-statuses.md"]()
    for name, error in vars(errors).items():
        if isinstance(error, type) and issubclass(error, errors.HarnessError):
            row = next(line for line in statuses.splitlines() if f"`{name}`" in line)
            assert row.startswith(f"| `{error.exit_code}` |")
    suite_file = generated["reference/suite-file.md"]()
    for key in ("data.name", "grid.strategies", "train.epochs", "expect[].accuracy", "reference[].n"):
        assert f"`{key}`" in suite_file


def test_nothing_of_the_site_is_fetched_from_elsewhere() -> None:
    given = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    assert given["theme"]["font"] is False
    assert not {"repo_url", "site_url", "extra_javascript"} & given.keys()
    for file in ("mkdocs.yml", "docs/assets/site.css"):
        assert "://" not in (ROOT / file).read_text("utf-8")


def test_no_page_names_a_path_of_one_machine() -> None:
    for page in PAGES:
        assert not re.search(r"(^|[\s`=\"'(])/(home|root|tmp|work)/", page.read_text("utf-8")), page.name
