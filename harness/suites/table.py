"""A TOML table read with types: every complaint is one line that names the file, its line and the key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from harness.errors import UnknownName, UsageError
from harness.suites.lines import line_of


@dataclass(frozen=True)
class Table:
    """The table ``where`` (empty: the top level) of ``file``."""

    file: str
    where: str
    values: Mapping[str, Any]
    source: str = field(default="", repr=False)  # the whole text, for the numbers of its lines

    def allow(self, *known: str) -> None:
        """Raises :class:`~harness.errors.UnknownName` for the first key that isn't known."""
        for key in self.values:
            if key not in known:
                raise UnknownName(f"key of {self._place()} in {self.at(key)}:", key, known)

    def table(self, key: str, *, optional: bool = False) -> Table:
        value = self.values.get(key, {} if optional else None)
        if not isinstance(value, dict):
            self._fail(key, "a table", value)
        return Table(self.file, self._name(key), value, self.source)

    def tables(self, key: str) -> tuple[Table, ...]:
        rows = self.values.get(key, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            self._fail(key, "a list of tables", rows)
        names = (f"{self._name(key)}[{i}]" for i in range(len(rows)))
        return tuple(Table(self.file, name, row, self.source) for name, row in zip(names, rows, strict=True))

    def text(self, key: str, default: str | None = None) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str) or (not value and default is None):
            self._fail(key, "a text", value)
        return value

    def text_or_none(self, key: str) -> str | None:
        return self.text(key) if key in self.values else None

    def choice(self, key: str, known: tuple[str, ...]) -> str | None:
        """One of ``known``; None where the key isn't there."""
        value = self.text_or_none(key)
        if value is not None and value not in known:
            self._fail(key, f"one of {', '.join(known)}", value)
        return value

    def integer(self, key: str, default: int | None = None, least: int | None = None) -> int:
        value = self.values.get(key, default)
        if not _is_integer(value) or (least is not None and value < least):
            self._fail(key, "a whole number" + ("" if least is None else f" from {least} up"), value)
        return int(value)

    def integer_or_none(self, key: str, least: int | None = None) -> int | None:
        return self.integer(key, least=least) if key in self.values else None

    def number(self, key: str) -> float:
        value: Any = self.values.get(key)
        if not is_number(value):
            self._fail(key, "a number", value)
        return float(value)

    def fraction(self, key: str) -> float:
        value = self.number(key)
        if not 0 <= value <= 1:
            self._fail(key, "a share between 0 and 1", value)
        return value

    def texts(
        self, key: str, default: tuple[str, ...] | None = None, *, allow_empty: bool = False
    ) -> tuple[str, ...]:
        if allow_empty and self.values.get(key) == []:
            return ()
        return self._list(key, default, lambda v: isinstance(v, str) and bool(v), "texts")

    def numbers(self, key: str, *, positive: bool = False) -> tuple[float, ...]:
        """Finite ones, above 0 with ``positive``."""
        kind = "numbers above 0" if positive else "numbers"
        values = self._list(key, None, lambda v: is_number(v) and (v > 0 or not positive), kind)
        return tuple(map(float, values))

    def integers(self, key: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """From 0 up."""
        return self._list(key, default, lambda v: _is_integer(v) and v >= 0, "whole numbers from 0 up")

    def matrix(self, key: str) -> tuple[tuple[int, ...], ...] | None:
        """A square matrix of counts, ``None`` where there is none."""
        rows = self.values.get(key)
        if rows is None:
            return None
        square = isinstance(rows, list) and all(isinstance(r, list) and len(r) == len(rows) for r in rows)
        if not square or not all(_is_integer(v) and v >= 0 for row in rows for v in row):
            self._fail(key, "a square matrix of counts", rows)
        return tuple(tuple(row) for row in rows)

    def options(self) -> Mapping[str, str | int | float | bool]:
        """All values, each a text, a number or true/false."""
        for key, value in self.values.items():
            if not isinstance(value, str | int | float | bool):
                self._fail(key, "a text, a number or true/false", value)
        return dict(self.values)

    def _list(self, key: str, default: Any, good: Any, kind: str) -> tuple[Any, ...]:
        value = self.values.get(key, default)
        if not isinstance(value, list | tuple) or not value or not all(good(v) for v in value):
            self._fail(key, f"a list of {kind}", value)
        return tuple(value)

    def _place(self) -> str:
        return f"[{self.where}]" if self.where else "the top level"

    def _name(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    @property
    def line(self) -> int | None:
        """Number of the line on which the table begins."""
        return line_of(self.source, self.where)

    def at(self, key: str = "") -> str:
        """``suite file 'x.suite.toml', line 12``: where ``key`` stands, or the table that lacks it."""
        number = line_of(self.source, self.where, key)
        return f"suite file '{self.file}'" + (f", line {number}" if number else "")

    def fail(self, key: str, reason: str) -> NoReturn:
        """Raises UsageError: what is wrong with ``key``, and where."""
        raise UsageError(f"{self.at(key)}: '{self._name(key) if key else self.where}' {reason}")

    def _fail(self, key: str, wanted: str, value: object) -> NoReturn:
        self.fail(key, f"must be {wanted}; " + ("it is missing" if value is None else f"it is {value!r}"))


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """A finite one, as a float too; true and false are none."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False
