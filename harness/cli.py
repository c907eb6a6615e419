"""The command line: finds the command, turns errors into one line and an exit status."""

from __future__ import annotations

import importlib
import os
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from harness import stopping
from harness.errors import HarnessError, UnknownName, UsageError

COMMANDS = {
    "run": "Train a grid of strategies and learning rates.",
    "report": "Write a Markdown and HTML report of finished runs.",
    "bands": "Measure what a suite should expect.",
    "check": "Hold fresh runs against what a suite expects.",
    "compare": "Compare two runs on the same test images.",
    "predict": "Classify images with the network of a finished run.",
    "export": "Write a run's network as files that stand alone.",
    "explain": "Compute heat maps of the images that the report shows (Grad-CAM).",
    "list": "List strategies, backbones, datasets, engines, trackers or suites.",
    "new": "Write a package for a plugin of your own.",
    "show": "Show one run.",
    "show plan": "Show what a strategy does with a backbone, stage by stage.",
    "rerun": "Train a run again from its record and compare every bit.",
    "verify": "Check every byte of finished runs against its digest.",
    "track": "Export runs to TensorBoard, MLflow or Weights & Biases (offline).",
    "runs": "List or remove run folders.",
    "data": "Find duplicates and leakage in images, labels and splits.",
    "cache": "List or remove what is kept between commands.",
    "doctor": "Check this machine: device, versions, data, weights.",
}
CONFIG = "harness.toml"
# How often a waiting OpenMP thread looks before it sleeps: libgomp's own count for more threads than
# cores. With its usual one, 300,000, a machine that does anything else besides spends its time on looking.
SPINS = "1000"


class _Lazy(click.Group):
    """A group that imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            raise UnknownName("command", cmd_name, COMMANDS)
        return _command(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The longer name first: ``show plan`` is a command beside ``show RUN``."""
        pair = " ".join(args[:2])
        return super().resolve_command(ctx, [pair, *args[2:]] if pair in COMMANDS else args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _command(name: str) -> click.Command:
    command: click.Command = importlib.import_module(f"harness.commands.{name.replace(' ', '_')}").command
    return command


def _config(path: Path) -> dict[str, Any]:
    """Defaults of options from ``harness.toml``: a table a command, ``[run]`` for ``harness run``."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number without end
        raise UsageError(f"can't read '{path}': {error}") from error
    unknown = sorted(set(found) - set(COMMANDS))
    if unknown:
        raise UsageError(f"'{path}' has an unknown table [{unknown[0]}] (there are: {', '.join(COMMANDS)})")
    return {name: _defaults(str(path), name, _command(name), options) for name, options in found.items()}


def _defaults(path: str, name: str, command: click.Command, options: object) -> dict[str, Any]:
    """The options of one table, checked against the command's own; a repeatable one takes one or a list.

    The commands of a group have tables of their own, ``[data.audit]``.
    """
    if not isinstance(options, dict):
        raise UsageError(f"'{path}': '{name}' is a table, [{name}], with a line for each option")
    inner = command.commands if isinstance(command, click.Group) else {}
    known: dict[str, click.Parameter] = {str(p.name): p for p in command.params}
    checked: dict[str, Any] = {}
    for key, value in options.items():
        option = key.replace("-", "_")
        if key in inner:
            checked[key] = _defaults(path, f"{name}.{key}", inner[key], value)
        elif option in known:
            checked[option] = _typed(f"'{path}', [{name}]: '{key}'", known[option], value)
        else:
            names = [*inner, *(k.replace("_", "-") for k in known)]
            raise UnknownName(f"{'command' if inner else 'option'} in [{name}] of '{path}'", key, names)
    return checked


def _typed(where: str, parameter: click.Parameter, value: object) -> str | bool | list[str]:
    """A value as a parameter takes it; UsageError where it can't be one."""
    if getattr(parameter, "is_flag", False):
        if not isinstance(value, bool):
            raise UsageError(f"{where} is true or false, not {value!r}")
        return value
    if getattr(parameter, "multiple", False) or parameter.nargs != 1:
        return [
            _plain(where, v, ", or a list of them") for v in (value if isinstance(value, list) else [value])
        ]
    return _plain(where, value)


def _plain(where: str, value: object, more: str = "") -> str:
    """A value as it would be typed."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{where} is a text or a number{more}, not {value!r}")
    if "\0" in str(value):
        raise UsageError(f"{where} holds a NUL character")
    return str(value)


@click.group(
    cls=_Lazy,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "HARNESS",
        "max_content_width": 100,
    },
    epilog="Example: harness run --strategy head_only --lr 1e-3 --lr 1e-4 && harness report",
)
@click.version_option(package_name="transfer-harness", prog_name="harness")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Compare ways to fine-tune an image classifier: what to freeze, how fast to train.

    Without any option, `harness run` trains on a small embedded sample of drawn faces.
    Every option can also be set as HARNESS_COMMAND_OPTION or in harness.toml.
    """
    ctx.default_map = _config(Path(CONFIG))


def main(argv: list[str] | None = None) -> None:
    """Runs the command line and exits with the documented status."""
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments or os.environ.get("HARNESS_DEBUG", "") not in ("", "0", "false")
    arguments = [a for a in arguments if a != "--debug"]
    stopping.open_streams()
    stopping.watch(stopping.GRACE if argv is None else None)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is imported
    if "RANK" in os.environ:
        # One of a group (world.py), which says itself whose failure ended it; torch adds its own stack.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        # obj: the record of a run quotes the command as it was typed.
        status = cli.main(arguments, prog_name="harness", standalone_mode=False, obj=tuple(arguments))
        code = status if isinstance(status, int) else 0
    except HarnessError as error:
        code = _fail(error, error.exit_code, debug)
    except click.ClickException as error:
        text = error.format_message()
        if "\n" in text:  # a group without a command: its help
            error.show()
        code = 2 if "\n" in text else _fail(text, 2, debug)
    except (click.Abort, KeyboardInterrupt):
        code = _fail(f"interrupted{_what_then(arguments)}", 130, debug)
    except stopping.Terminated as error:
        code = _fail(f"terminated{_what_then(arguments)}", 128 + error.args[0], debug)
    except stopping.Ended as error:
        code = error.args[0]
    except SystemExit as error:
        # Where nobody reads the output any more, click puts its own in the stream's place and exits.
        if type(sys.stdout).__module__.startswith("click."):
            code = 141
        else:  # a plugin's
            text = f"internal error: SystemExit: {error} (--debug shows where)"
            code = _fail(error if debug else text, 1, debug)
    except OSError as error:
        code = _fail(f"{error.filename or 'output'}: {error.strerror or error}", 1, debug)
    except Exception as error:
        text = f"internal error: {type(error).__name__}: {error} (--debug shows where)"
        code = _fail(error if debug else text, 1, debug)
    sys.exit(code)


def _what_then(arguments: Sequence[str]) -> str:
    goes_on = arguments[:1] == ["run"] and "--plan" not in arguments
    return "; the same command goes on where it stopped" if goes_on else ""


def _fail(error: BaseException | str, code: int, debug: bool) -> int:
    if debug and isinstance(error, BaseException):
        raise error
    click.echo(f"harness: {' '.join(str(error).split())}", err=True)
    return code
