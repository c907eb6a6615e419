"""matplotlib's SVG made fit for a page: small, with ids of its own, without a word of CSS.

Presentation attributes take the place of ``style``, so that the page's content-security policy need not
allow styles that it doesn't know.
"""

from __future__ import annotations

import re

FONTS = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"

_TAG = re.compile(r"<[^<>]+>")
_GROUP = re.compile(r"(<g(?: [^<>]*)?/?>|</g>)")
_ATTRIBUTE = re.compile(r'\s+([\w:-]+)="([^"]*)"')
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_USED_ID = re.compile(r'(?:url\(|href=")#([^")]+)')


def compact(svg: str, name: str) -> str:
    """The same picture in a third of the bytes; ``name`` begins each id, so that no other figure has it."""
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.S)
    used = set(_USED_ID.findall(svg))
    svg = _TAG.sub(lambda match: _tag(match[0], name, used), svg)
    svg = re.sub(r">\s+<", "><", svg).replace("<defs></defs>", "")
    # matplotlib says so in a style sheet, which would hold for every figure of the page.
    root = f'<svg font-family="{FONTS}" stroke-linejoin="round" stroke-linecap="butt" '
    return _without_idle_groups(svg).replace("<svg ", root, 1)


def _tag(tag: str, name: str, used: set[str]) -> str:
    """One tag with short numbers, attributes instead of a style, and the ids that something refers to."""
    if tag.startswith(("<?", "<!", "</")):
        return tag

    def attribute(match: re.Match[str]) -> str:
        key, value = match[1], match[2].replace("url(#", f"url(#{name}-")
        if key == "id":
            return f' id="{name}-{value}"' if value in used else ""
        if key == "style":
            return _attributes(value)
        if key.endswith("href"):
            return f' {key}="{f"#{name}-{value[1:]}" if value[0] == "#" else value}"'
        if key == "transform" and value.startswith("rotate(-0 "):
            return ""
        if key == "d":
            value = re.sub(r"\s*([A-Za-z])\s*", r"\1", value.strip())
        return f' {key}="{_NUMBER.sub(_hundredth, value)}"'

    return _ATTRIBUTE.sub(attribute, tag)


def _attributes(style: str) -> str:
    """``fill: none; stroke: #888`` as attributes; what the root says for all is left out."""
    pairs = (part.split(":", 1) for part in style.split(";") if ":" in part)
    values = {key.strip(): value.strip() for key, value in pairs}
    if "'DejaVu Sans'" in values.get("font-family", ""):
        del values["font-family"]
    if values.get("stroke-linejoin") == "miter":
        del values["stroke-linejoin"]
    return "".join(f' {key}="{value}"' for key, value in values.items())


def _hundredth(match: re.Match[str]) -> str:
    shown = f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if shown == "-0" else shown


def _without_idle_groups(svg: str) -> str:
    """Without empty groups, and without those that only hold others together."""
    kept: list[bool] = []
    parts = []
    for part in _GROUP.split(svg):
        if part == "</g>":
            part = part if kept.pop() else ""
        elif _GROUP.fullmatch(part):
            needed = part not in ("<g>", "<g/>")
            if not part.endswith("/>"):
                kept.append(needed)
            part = part if needed else ""
        parts.append(part)
    return "".join(parts)
