"""The contact sheet as one HTML file that contains its images."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from audit.tiles import Tile
from inspection.finding import Finding
from utils.drawing.legend import Entry
from utils.files.atomic_write import write_text

MARK = '<meta name="generator" content="check.py">'

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{mark}
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --paper: #f6f7f9; --card: #fff; --ink: #1d2129;
  --faint: #667085; --line: #e4e7ec; --alarm: #b42318; --warn: #93540a; }}
@media (prefers-color-scheme: dark) {{ :root {{ --paper: #14161a; --card: #1f2329; --ink: #e6e8ec;
  --faint: #98a2b3; --line: #343a43; --alarm: #ff8a7a; --warn: #f5b65c; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; padding: 24px 16px 48px; max-width: 1680px; background: var(--paper);
  color: var(--ink); font: 14px/1.45 system-ui, sans-serif; }}
h1 {{ font-size: 20px; margin: 0 0 12px; overflow-wrap: anywhere; }}
details {{ margin: 0 0 16px; padding: 10px 14px; background: var(--card);
  border: 1px solid var(--line); border-radius: 8px; }}
summary {{ cursor: pointer; font-weight: 600; }}
details ul {{ padding: 0 0 0 18px; margin: 10px 0 0; overflow-wrap: anywhere; }}
li {{ margin-bottom: 6px; }} li span {{ color: var(--ink); }}
.error {{ color: var(--alarm); }} .warning {{ color: var(--warn); }}
.legend {{ display: grid; gap: 2px 14px; margin-top: 10px;
  grid-template-columns: repeat(auto-fill, minmax(175px, 1fr)); }}
.chip {{ display: inline-flex; align-items: flex-start; gap: 6px; min-width: 0;
  overflow-wrap: anywhere; }}
.chip small {{ white-space: nowrap; }}
.chip i {{ flex: none; width: 12px; height: 12px; border-radius: 3px; margin-top: 4px;
  border: 1px solid #8884; }}
.chip small, .faint {{ color: var(--faint); }}
main {{ display: grid; gap: 16px; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 520px), 1fr)); }}
article {{ background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  overflow: hidden; }}
article.odd {{ border-color: var(--alarm); }}
.pair {{ display: grid; grid-template-columns: 1fr 1fr; gap: 2px; background: var(--line); }}
.pair img, .pair div {{ display: block; width: 100%; height: 100%; max-height: 420px;
  object-fit: contain; background: var(--card); }}
.pair div {{ display: grid; place-items: center; min-height: 90px; color: var(--faint); }}
.text {{ padding: 10px 12px; }}
.text b {{ overflow-wrap: anywhere; }}
.chips {{ display: flex; flex-wrap: wrap; gap: 2px 12px; margin-top: 6px; }}
.text p {{ margin: 6px 0 0; overflow-wrap: anywhere; }}
@media (max-width: 460px) {{ .pair {{ grid-template-columns: 1fr; }}
  body {{ padding: 16px 10px; }} }}
</style>
</head>
<body>
<h1>{title}</h1>
{findings}
<details open><summary>{number} classes</summary><div class="legend">{legend}</div></details>
<main>
{tiles}
</main>
</body>
</html>
"""


def write_html(
    path: Path,
    title: str,
    tiles: Sequence[Tile],
    legend: Sequence[Entry],
    findings: Sequence[Finding],
) -> None:
    """Write title, findings, legend and tiles into one self-contained file.

    Raises:
        OSError: If it cannot be written.
    """
    page = _PAGE.format(
        mark=MARK,
        title=html.escape(title),
        findings=_findings(findings),
        number=len(legend) - 1,
        legend="".join(_chip(entry, f"{100 * entry.fraction:.2f} %") for entry in legend),
        tiles="\n".join(map(_tile, tiles)),
    )
    # File names may contain bytes that are not UTF-8; they are written as they are.
    write_text(path, page, overwrite=True)


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return ""
    items = "".join(
        f'<li class="{finding.severity}">{html.escape(str(finding))}'
        f"<br><span>{html.escape(finding.fix)}</span></li>"
        for finding in findings
    )
    return f"<details open><summary>Findings: {len(findings)}</summary><ul>{items}</ul></details>"


def _chip(entry: Entry, percent: str) -> str:
    colour = "#{:02x}{:02x}{:02x}".format(*entry.colour)
    return (
        f'<span class="chip"><i style="background:{colour}"></i>'
        f"<span>{html.escape(entry.name)} <small>{percent}</small></span></span>"
    )


def _tile(tile: Tile) -> str:
    size = "cannot be read" if tile.size is None else f"{tile.size[0]}x{tile.size[1]}"
    images = _image(tile.image, "image") + _image(tile.overlay, "labels")
    chips = "".join(_chip(entry, f"{100 * entry.fraction:.1f} %") for entry in tile.entries)
    messages = "".join(f'<p class="error">{html.escape(text)}</p>' for text in tile.messages)
    return (
        f'<article{" class=odd" if tile.messages else ""}><div class="pair">{images}</div>'
        f'<div class="text"><b>{html.escape(tile.name)}</b> '
        f'<span class="faint">{size}, {tile.split}</span>{messages}'
        f'<div class="chips">{chips}</div></div></article>'
    )


def _image(image: np.ndarray | None, what: str) -> str:
    if image is None:
        return f"<div>no {what}</div>"
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{what}" loading="lazy" src="data:image/jpeg;base64,{data}">'
