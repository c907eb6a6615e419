from __future__ import annotations

import pytest

from harness.stats import Interval
from reports import formats
from reports.markdown import Ready, block, code, escape


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (formats.percent(0.918333), "91.83 %"),
        (formats.interval(Interval(-0.0094, 0.92765)), "[−0.94, 92.77]"),
        (formats.points(0.0093), "+0.93"),
        (formats.points(-0.3877), "−38.77"),
        (formats.points(-0.00001), "0.00"),
        (formats.rate(1e-3), "1e-3"),
        (formats.rate(0.00025), "2.5e-4"),
        (formats.rate(0.05), "0.05"),
        (formats.rates([], 3), "frozen"),
        (formats.rates([(1, 3, 1e-3)], 3), "1e-3"),
        (formats.rates([(1, 2, 1e-3), (4, 4, 0.1)], 4), "1-2: 1e-3, 4: 0.1"),
        (formats.rates([(1, 1, 1.25594e-5)], 1), "1.26e-5"),
        (formats.distance(0.0), "0"),
        (formats.distance(None), "none"),
        (formats.distance(0.0123), "1.2e-02"),
        (formats.p_value(0.0312), "p = 0.03"),
        (formats.p_value(0.00312), "p = 0.0031"),
        (formats.p_value(1e-9), "p < 0.0001"),
        (formats.seconds(4.21), "4.2 s"),
        (formats.seconds(200), "3 min 20 s"),
        (formats.seconds(7500), "2 h 05 min"),
        (formats.plural(1, "image"), "1 image"),
        (formats.loss(float("nan")), "not finite"),
        (formats.listing(["a"]), "a"),
        (formats.listing(["a", "b", "c"]), "a, b and c"),
        (formats.listing(["a, x", "b"]), "a, x; and b"),
        (formats.listing(list("abcdefghijk")), "a, b, c, d, e, f, g, h and 3 more"),
    ],
)
def test_formats(shown, wanted):
    assert shown == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("last_block", "last_block"),
        ("__init__", "\\_\\_init\\_\\_"),
        ("a|b", "a\\|b"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("[x](y)", "\\[x\\](y)"),
        ("two\nlines", "two lines"),
        ("# head", "\\# head"),
        ("1. item", "1\\. item"),
        ("0.485", "0.485"),
    ],
)
def test_markdown_shows_the_text_itself(text, wanted):
    assert escape(text) == wanted
    assert escape(Ready(text)) == text


def test_code_with_backticks():
    assert code("plain") == "`plain`"
    assert code("a`b") == "``a`b``"
    assert code("`a") == "`` `a ``"
    assert block("x ``` y\nz") == "````sh\nx ``` y z\n````"
