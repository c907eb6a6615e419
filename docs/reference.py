"""Pages of the site that are made from the code whenever it is built: a hook of MkDocs.

``PAGES`` maps a page's address to the function that writes it. Nothing of it is kept, so nothing of it
can be out of date; ``tests/test_docs.py`` holds the pages against the code by other ways.
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import click

from harness import errors, plugins
from harness.cli import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[1]


# --------------------------------------------------------------------------- the command line


def cli_page() -> str:
    """Every command with its arguments, options, defaults and examples, from click itself."""
    parts = [
        "# Command line",
        inspect.cleandoc(cli.help or ""),
        "An option's environment variable is `HARNESS_`, the command and the option in capitals, with an "
        "underscore for each dash: `HARNESS_RUN_BATCH_SIZE`; in `harness.toml` it is a line in the command's "
        "table. The command line wins over the variable, and that over the file.",
        _table(
            ("command", "does"), ((f"[`harness {n}`](#harness-{_slug(n)})", t) for n, t in COMMANDS.items())
        ),
    ]
    for name in COMMANDS:
        context = click.Context(cli, info_name="harness")
        parts += _command(f"harness {name}", _resolved(context, name), context)
    return "\n\n".join(parts) + "\n"


def _resolved(context: click.Context, name: str) -> click.Command:
    found = cli.get_command(context, name)
    assert found is not None
    return found


def _command(name: str, command: click.Command, parent: click.Context, level: int = 2) -> Iterator[str]:
    context = click.Context(command, info_name=name.partition(" ")[2], parent=parent)
    yield f"{'#' * level} harness {name.partition(' ')[2]}"
    yield _prose(command.help or "")
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{name} {usage}\n```"
    rows = [_option(p, context) for p in command.params if isinstance(p, click.Option) and not p.hidden]
    if rows:
        yield _table(("option", "means"), rows)
    if command.epilog:
        yield f"```text\n{_examples(command.epilog)}\n```"
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            inner = command.get_command(context, sub)
            assert inner is not None
            yield from _command(f"{name} {sub}", inner, context, level + 1)


def _option(option: click.Option, context: click.Context) -> tuple[str, str]:
    names, text = option.get_help_record(context) or ("", "")
    return f"`{names}`", text.replace("  [", " [")


def _examples(epilog: str) -> str:
    text = textwrap.dedent(epilog.replace("\b", "")).strip()
    lines = re.sub(r"^Examples?:\s*", "", text).split("\n")
    return "\n".join(part.strip() for line in lines for part in line.split("; ") if part.strip())


def _prose(text: str) -> str:
    """click's help as paragraphs; what it keeps as it stands (after a backspace) as code."""
    parts = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b"):
            lines = paragraph.removeprefix("\b").strip("\n")
            parts.append(f"```text\n{textwrap.dedent(lines)}\n```")
        else:
            parts.append(" ".join(paragraph.split()))
    return "\n\n".join(parts)


# --------------------------------------------------------------------------- plugins


def plugins_page() -> str:
    """All plugins of this installation's own package, by kind, with their options."""
    parts = [
        "# Plugins that come along",
        "What `harness list` shows, with the options of each, which go in brackets: "
        "`--strategy 'last_k[k=2]'`. "
        "[Strategies](../strategies.md) have a page of their own.",
    ]
    for group, kind in plugins.KINDS.items():
        names = [n for n, found in plugins.find(group).items() if found.package == "transfer-harness"]
        if group == plugins.STRATEGIES or not names:
            continue
        rows = [(f"`{n}`", *_described(plugins.load(group, n, kind))) for n in names]
        heading = "Families of backbones" if group == plugins.FAMILIES else f"{kind.capitalize()}s"
        parts += [f"## {heading}", _table(("name", "options", "is"), rows)]
        if group == plugins.BACKBONES:
            short = [(f"`{n}`", f"`{full}`") for n, full in plugins.SHORT_NAMES.items()]
            parts += ["Short names:", _table(("name", "stands for"), short)]
    return "\n\n".join(parts) + "\n"


def _described(plugin: Any) -> tuple[str, str]:
    found = fields(plugin) if isinstance(plugin, type) and is_dataclass(plugin) else ()
    options = ", ".join(
        f"`{f.name}` (needed)" if f.default is MISSING else f"`{f.name}={f.default}`" for f in found if f.init
    )
    doc = inspect.cleandoc(plugin.__doc__ or "").split("\n\n")[0]
    return options, getattr(plugin, "summary", "") or " ".join(doc.split())


# --------------------------------------------------------------------------- files and statuses


def suite_page() -> str:
    """The keys of a suite file, from its JSON schema."""
    schema = json.loads((resources.files("harness.suites") / "suite.schema.json").read_text("utf-8"))
    rows = list(_keys(schema, schema, ""))
    return (
        "# Keys of a suite file\n\n"
        "From `harness/suites/suite.schema.json`, against which a test holds the parser. What they are for: "
        "[suites](../suites.md). `[]` marks a list of tables, `[[expect]]`; needed keys are bold.\n\n"
        + _table(("key", "value"), rows)
        + "\n"
    )


def _keys(node: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for name, given in node.get("properties", {}).items():
        value = _dereferenced(given, schema)
        many = value.get("type") == "array" and "properties" in (i := _dereferenced(value["items"], schema))
        own = f"{path}{name}{'[]' if many else ''}"
        shown = f"**`{own}`**" if name in node.get("required", ()) else f"`{own}`"
        yield shown, "" if many or "properties" in value else _value(value, schema)
        yield from _keys(i if many else value, schema, f"{own}.")


def _dereferenced(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in node:
        found: Any = schema
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def _value(node: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A schema's node in words."""
    node = _dereferenced(node, schema)
    for several in ("oneOf", "anyOf"):
        if several in node:
            return " or ".join(dict.fromkeys(_value(n, schema) for n in node[several]))
    if "enum" in node:
        return ", ".join(f"`{v}`" for v in node["enum"])
    if "const" in node:
        return f"`{node['const']}`"
    kind = node.get("type", "anything")
    if kind == "array":
        inner = _value(node["items"], schema) if "items" in node else "values"
        return f"list of {inner}"
    if kind == "object" and "additionalProperties" in node and isinstance(node["additionalProperties"], dict):
        return f"table of {_value(node['additionalProperties'], schema)}"
    limits = [
        f"{word} {node[key]}"
        for key, word in (("minimum", "at least"), ("maximum", "at most"))
        if key in node
    ]
    words = {"string": "text", "object": "table", "boolean": "true or false"}
    kinds = kind if isinstance(kind, list) else [kind]
    return " or ".join(words.get(k, k) for k in kinds) + (f", {', '.join(limits)}" if limits else "")


def exit_page() -> str:
    """Exit statuses, from the tree of errors."""
    classes = [
        c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.HarnessError)
    ]
    codes: dict[int, list[str]] = {0: ["All went well."]}
    for found in sorted(classes, key=lambda c: c.exit_code):
        line = " ".join(inspect.cleandoc(found.__doc__ or "").split("\n\n")[0].split())
        codes.setdefault(found.exit_code, []).append(f"`{found.__name__}`: {line}")
    codes[5] = ["`harness check`: a figure outside its band, or one that can't be judged."]
    codes[129] = ["Stopped by SIGHUP (a closed terminal); the same `harness run` goes on where it stopped."]
    codes[130] = ["Stopped by Ctrl-C (SIGINT); the same `harness run` goes on where it stopped."]
    codes[141] = ["Whoever read the output went away (`| head`)."]
    codes[143] = ["Stopped by SIGTERM; the same `harness run` goes on where it stopped."]
    rows = [(f"`{code}`", "<br>".join(texts)) for code, texts in sorted(codes.items())]
    return (
        "# Exit statuses\n\nAn error is one line on standard error, with the name of the file or option at "
        "fault; `--debug` adds the traceback. Names are classes of `harness.errors`, which the Python "
        "API raises.\n\n" + _table(("status", "means"), rows) + "\n"
    )


# --------------------------------------------------------------------------- Python


_API = (
    ("Running and reading", tuple(f"harness.api.{m}" for m in ("train", "runs", "grids", "report"))),
    ("What plugins are", ("harness.contracts", "harness.recipes", "harness.stage_info", "harness.tracked")),
    ("Contracts as tests", ("harness.testing",)),
    ("Errors", ("harness.errors",)),
    (
        "Records and reports",
        ("harness.store", "harness.seal", "reports.records", "reports.summary", "reports.model"),
    ),
)


def api_page() -> str:
    """Directives for mkdocstrings, which reads the sources."""
    parts = ["# Python", "How to use it is on the page about the [Python interface](../python.md)."]
    for heading, modules in _API:
        parts.append(f"## {heading}")
        for name in modules:
            parts.append(f"::: {name}\n    options:\n      heading_level: 3\n      show_root_heading: true")
    return "\n\n".join(parts) + "\n"


def changelog_page() -> str:
    """The project's own file."""
    return (ROOT / "CHANGELOG.md").read_text("utf-8")


PAGES: dict[str, Callable[[], str]] = {
    "reference/cli.md": cli_page,
    "reference/plugins.md": plugins_page,
    "reference/suite-file.md": suite_page,
    "reference/exit-statuses.md": exit_page,
    "reference/python.md": api_page,
    "changelog.md": changelog_page,
}


# --------------------------------------------------------------------------- helpers


def _slug(text: str) -> str:
    return text.replace(" ", "-")


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(str(c).replace("|", "\\|").replace("\n", " ") for c in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


# --------------------------------------------------------------------------- MkDocs calls these


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages."""
    from mkdocs.structure.files import File

    for address, write in PAGES.items():
        files.append(File.generated(config, address, content=write()))
    return files


_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):<code>~?([\w.]+)(?:\(\))?</code>")


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Sphinx's roles, which docstrings have, as plain code: the last part of the name."""
    return _ROLE.sub(lambda found: f"<code>{found[1].rpartition('.')[2]}</code>", html)
