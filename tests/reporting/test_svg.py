from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from matplotlib.figure import Figure

from reports.style import drawing, picture

TRAP = 'a style="fill: red" id="b" 1.23456 url(#c) <g> -0.004'
SVG = "{http://www.w3.org/2000/svg}"


def drawn():
    with drawing():
        figure = Figure(figsize=(3, 2))
        axes = figure.subplots()
        axes.plot([0, 1], [1, 0], "o--")
        axes.bar([0.5], [0.5], hatch="///")
        axes.set_title(TRAP)
        return picture("cell-7-x", f"Says {TRAP}", figure)


def test_a_figure_needs_no_style_and_keeps_its_words():
    page, file = drawn().inline, drawn().file
    assert " style=" not in re.sub(r">[^<]*<", "><", page.replace("style=&quot;", ""))
    for text in (page, file):
        root = ET.fromstring(text[text.index("<svg") :])
        assert TRAP in [t.text for t in root.iter(f"{SVG}text")]
        assert root.get("stroke-linejoin") == "round"
        assert not list(root.iter(f"{SVG}style"))
        dashed = [e.get("stroke-dasharray") for e in root.iter(f"{SVG}path") if e.get("stroke-dasharray")]
        assert dashed
    assert ET.fromstring(page).get("aria-label") == f"Says {TRAP}"


def test_ids_begin_with_the_name_and_all_that_are_used_are_there():
    root = ET.fromstring(drawn().inline)
    ids = [e.get("id") for e in root.iter() if e.get("id")]
    assert ids
    assert len(ids) == len(set(ids))
    assert all(i.startswith("cell-7-x-") for i in ids)
    values = [(k, v) for e in root.iter() for k, v in e.attrib.items() if k != "aria-label"]
    used = {m for k, v in values for m in re.findall(r"#(.+)" if k.endswith("href") else r"url\(#([^)]+)", v)}
    assert used == set(ids)


def test_coordinates_are_hundredths_of_a_point_and_groups_hold_something():
    text = drawn().inline
    assert not re.search(r'(?:d|x|y|transform)="[^"]*\.\d{3}', text)
    assert "<g></g>" not in text
    assert "<g>" not in re.sub(r">[^<]*<", "><", text)
    assert "M-" in text or "M0" in text
