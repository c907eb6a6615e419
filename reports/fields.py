"""A JSON object read with types: every complaint names the file and the key."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from harness.errors import RecordError

_MISSING: Any = object()


def clean(text: str) -> str:
    """The text on one line, without control and direction-changing characters.

    Names come from file systems and CSV files; such characters could break a line of Markdown or
    show a name as something that it isn't.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        " " if c in "\n\r\t" else "\ufffd" if unicodedata.category(c) in _UNSHOWN else c for c in text
    )


_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


@dataclass(frozen=True)
class Fields:
    """The object ``where`` (empty: the whole) of a JSON file."""

    file: Path
    where: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, file: Path, where: str, value: object) -> Fields:
        if not isinstance(value, dict):
            name = f"'{where}'" if where else "the content"
            raise RecordError(f"{file}: {name} should be an object, it is {value!r:.60}")
        return cls(file, where, value)

    def sub(self, key: str) -> Fields:
        return Fields.of(self.file, self._name(key), self._get(key, _MISSING))

    def optional_sub(self, key: str) -> Fields | None:
        return None if self.values.get(key) is None else self.sub(key)

    def subs(self, key: str) -> tuple[Fields, ...]:
        rows = self._list(key)
        return tuple(Fields.of(self.file, f"{self._name(key)}[{i}]", row) for i, row in enumerate(rows))

    def text(self, key: str, default: str = _MISSING) -> str:
        return clean(self.raw(key, default))

    def raw(self, key: str, default: str = _MISSING) -> str:
        """A text as it is; for paths that are opened."""
        value = self._get(key, default)
        if not isinstance(value, str):
            self._fail(key, "a text", value)
        return value

    def text_or_none(self, key: str) -> str | None:
        return None if self.values.get(key) is None else self.text(key)

    def flag(self, key: str, default: bool = _MISSING) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            self._fail(key, "true or false", value)
        return value

    def integer(self, key: str, default: int = _MISSING) -> int:
        return self._integer(key, self._get(key, default))

    def integer_or_none(self, key: str) -> int | None:
        return None if self.values.get(key) is None else self.integer(key)

    def number(self, key: str, default: float = _MISSING) -> float:
        """A finite number."""
        return self._number(key, self._get(key, default))

    def loss(self, key: str) -> float | None:
        """A number, ``nan`` where the file says ``null`` (not finite), ``None`` where it is absent."""
        if key not in self.values:
            return None
        value = self.values[key]
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return math.nan
        return self._number(key, value)

    def number_or_none(self, key: str) -> float | None:
        return None if self.values.get(key) is None else self.number(key)

    def texts(self, key: str) -> tuple[str, ...]:
        values = self._list(key)
        if not all(isinstance(v, str) for v in values):
            self._fail(key, "a list of texts", values)
        return tuple(clean(v) for v in values)

    def integers(self, key: str) -> tuple[int, ...]:
        return tuple(self._integer(key, v) for v in self._list(key))

    def numbers(self, key: str) -> tuple[float, ...]:
        return tuple(self._number(key, v) for v in self._list(key))

    def matrix(self, key: str, side: int) -> tuple[tuple[int, ...], ...]:
        """A square matrix of counts."""
        rows = self._list(key)
        if len(rows) != side or not all(isinstance(r, list) and len(r) == side for r in rows):
            self._fail(key, f"a matrix of {side} x {side} counts", rows)
        return tuple(tuple(self._integer(key, v) for v in row) for row in rows)

    def options(self) -> dict[str, str]:
        """All values as they are shown."""
        return {clean(k): shown(v) for k, v in self.values.items()}

    def _list(self, key: str) -> list[Any]:
        value = self._get(key, _MISSING)
        if not isinstance(value, list):
            self._fail(key, "a list", value)
        return value

    def _integer(self, key: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            self._fail(key, "a whole number", value)
        return value

    def _number(self, key: str, value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            self._fail(key, "a finite number", value)
        return float(value)

    def _get(self, key: str, default: Any) -> Any:
        value = self.values.get(key, default)
        if value is _MISSING:
            raise RecordError(f"{self.file}: '{self._name(key)}' is missing")
        return value

    def _name(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def _fail(self, key: str, wanted: str, value: object) -> NoReturn:
        raise RecordError(f"{self.file}: '{self._name(key)}' should be {wanted}, it is {value!r:.60}")


def shown(value: object) -> str:
    """An option's value as the report shows it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in (None, "") else f"{value:g}" if isinstance(value, float) else clean(str(value))
