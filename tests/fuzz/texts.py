"""Odd words, and TOML whole and broken."""

from __future__ import annotations

from hypothesis import strategies as st

from harness.suites.write import _value as toml

ODD = [
    "",
    "ü",
    "\u202e",
    "\udcff",
    " ",
    "👩\u200d🔬",
    "\x1b[31m",
    "a b",
    "'",
    '"',
    "%s{0}{}",
    "-",
    "--x",
    "$HOME",
    "~",
]
ODD += ["x" * 5000, "\\", "a\nb", "a\tb", "#", "[", "]", "=", "𝟙"]
LITERALS = [
    "1",
    "-1",
    "0",
    "1.5",
    "1e999",
    "nan",
    "-inf",
    "true",
    "false",
    "[]",
    "[1]",
    "[[1]]",
    "{}",
    '""',
    "2026-11-25",
    "12:00:00",
    "0x10",
    "1_000",
]
LITERALS += ['["x"]', "{ a = 1 }", '"\\u0000"', '"x"', '"""a\nb"""', "[" * 2000 + "]" * 2000]
LITERALS += ["9" * 30, "9" * 400, "9" * 5000]
_TYPED = [w for w in ODD if w.isprintable()] + [
    "\0",
    "\r",
    "\ufeff",
    "\u2028",
    "[[expect]]\n",
    "[grid]\n",
    "= 1\n",
]


def toml_good(value: str) -> st.SearchStrategy[str]:
    """A text as a string, or as it stands where that is TOML too."""
    plain = value in ("true", "false") or value.replace(".", "", 1).replace("e-", "", 1).isdecimal()
    return st.just(value if plain else toml(value))


def toml_value(value: str) -> st.SearchStrategy[str]:
    """A text as a string, as it stands, in a list, or something else instead."""
    if not value.isprintable():
        return st.sampled_from(LITERALS)
    return st.sampled_from([toml(value), value or '""', f"[{toml(value)}]"]) | st.sampled_from(LITERALS)


def _mutations(text: str) -> st.SearchStrategy[str]:
    lines = text.splitlines(keepends=True) or [""]
    at = st.integers(0, len(lines) - 1)

    def valued(i: int, literal: str) -> str:
        key, equals, _ = lines[i].partition("=")
        changed = f"{key}= {literal}\n" if equals else f"{key.rstrip()} {literal}\n"
        return "".join([*lines[:i], changed, *lines[i + 1 :]])

    def moved(i: int, j: int) -> str:
        rest = lines[:i] + lines[i + 1 :]
        return "".join(rest[:j] + lines[i : i + 1] + rest[j:])

    return st.one_of(
        st.builds(valued, at, st.sampled_from(LITERALS)),
        st.builds(valued, at, st.sampled_from(LITERALS)),
        st.builds(moved, at, at),
        at.map(lambda i: "".join(lines[:i] + lines[i + 1 :])),
        at.map(lambda i: "".join(lines[: i + 1] + lines[i:])),
        st.integers(0, len(text)).map(lambda n: text[:n]),
        st.builds(
            lambda n, word: text[:n] + word + text[n:], st.integers(0, len(text)), st.sampled_from(_TYPED)
        ),
    )


@st.composite
def mutated(draw: st.DrawFn, text: str, most: int = 3) -> str:
    """``text`` with one to ``most`` changes."""
    for _ in range(draw(st.integers(1, most))):
        text = draw(_mutations(text))
    return text
