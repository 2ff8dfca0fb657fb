"""A self-contained HTML page and its elements: no script, no font and no image from elsewhere."""

import base64
import html
import re
from collections.abc import Iterable
from urllib.parse import quote

from keras_vision.pipeline.tables import Row, words

NUMBER = re.compile(r"[-+]?\d[\d.,%]*(\s|$)")


def text(content: object) -> str:
    """Text as HTML shows it; nothing in it is read as a tag."""
    return html.escape(str(content))


def page(title: str, body: str) -> str:
    """A whole page that reads well on a laptop, on a phone, on paper, and in dark mode.

    Args:
        title: Text.
        body: HTML.
    """
    return _TEMPLATE.format(title=text(title), body=body)


def picture(name: str, png: bytes) -> str:
    """An image element that carries its PNG bytes."""
    data = base64.b64encode(png).decode("ascii")
    return f'<img alt="{text(words(name))}" src="data:image/png;base64,{data}">'


def link(label: str, address: str) -> str:
    """A link to a file beside the page."""
    return f'<a href="{text(quote(address))}">{text(label)}</a>'


def table(head: Row, rows: Iterable[Row], *, as_html: bool = False) -> str:
    """An HTML table of text cells, which scrolls sideways where the page is narrow.

    Args:
        as_html: Whether the cells of the rows are HTML.
    """
    cells = "".join(f"<th>{text(cell)}</th>" for cell in head)
    cell = (lambda content: f"<td>{content}</td>") if as_html else _cell
    lines = ["<tr>" + "".join(map(cell, row)) + "</tr>" for row in rows]
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _cell(content):
    # A number and its interval stay on one line.
    number = ' class="number"' if NUMBER.match(str(content)) else ""
    return f"<td{number}>{text(content)}</td>"


def section(anchor: str, title: str, body: str) -> str:
    """A section with a heading that the table of contents links to."""
    return f'<section id="{anchor}">\n<h2>{text(title)}</h2>\n{body}\n</section>'


def contents(entries: Iterable[tuple[str, str]]) -> str:
    """The table of contents: `(anchor, title)` of each section."""
    links = "".join(f'<a href="#{anchor}">{text(title)}</a>' for anchor, title in entries)
    return f'<nav aria-label="Contents">{links}</nav>'


def side_by_side(*parts: str) -> str:
    """Elements next to each other where the page is wide enough, below each other elsewhere."""
    return f'<div class="pair">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def folded(title: str, body: str) -> str:
    """A part that is opened by a click."""
    return f"<details><summary>{text(title)}</summary>\n{body}\n</details>"


_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --text: #1f2328; --soft: #59636e; --line: #d8dee4; --back: #fff; --card: #f6f8fa; --link: #0969da; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --text: #e6edf3; --soft: #9ba4ad; --line: #30363d; --back: #0d1117; --card: #161b22; --link: #6cb6ff; }}
}}
* {{ box-sizing: border-box; }}
body {{ font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); max-width: 1100px;
  margin: 0 auto; padding: 1.5em 1em 4em; }}
h1 {{ margin: 0 0 .2em; }}
h1, p, li {{ overflow-wrap: anywhere; }}
h2 {{ margin: 2em 0 .6em; padding-bottom: .2em; border-bottom: 1px solid var(--line); }}
a {{ color: var(--link); }}
.lead, .note {{ color: var(--soft); margin-top: 0; }}
nav {{ display: flex; flex-wrap: wrap; gap: .3em 1.1em; margin: 1.2em 0; }}
nav a {{ text-decoration: none; white-space: nowrap; }}
.cards {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: .8em; margin: 1.2em 0; }}
.card {{ background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .7em .9em; }}
.card b {{ display: block; font-size: 1.7em; line-height: 1.2; font-variant-numeric: tabular-nums; }}
.card span {{ display: block; color: var(--soft); font-size: .88em; }}
.findings li {{ margin: .35em 0; }}
.pair {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 1em;
  align-items: start; }}
img {{ max-width: 100%; height: auto; background: #fff; border-radius: 6px; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 14px; }}
th, td {{ text-align: left; vertical-align: top; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); }}
td {{ font-variant-numeric: tabular-nums; }}
.number {{ white-space: nowrap; }}
code {{ font-size: .92em; overflow-wrap: anywhere; }}
summary {{ cursor: pointer; font-weight: 600; margin: .6em 0; }}
@media print {{
  body {{ max-width: none; font-size: 11px; padding: 0; }}
  nav {{ display: none; }}
  section, .card, img, tr {{ break-inside: avoid; }}
  table {{ font-size: 10px; }}
}}
</style>
</head>
<body>
{body}
</body>
</html>
"""
