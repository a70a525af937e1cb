"""A self-contained HTML file with the table and, for every picture, a slider between any two methods."""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..assets import BENCHMARK_PAGE, asset_path
from ..atomic import write_atomically
from ..errors import VARestorerError
from ..pictures import read_picture, to_uint8
from ..pictures.writing import MAX_SIDE
from .measures import MEASURES
from .scoring import Row
from .statistics import Summary
from .tables import ranks

_QUALITY = 95
_LONGEST_SIDE = MAX_SIDE["WEBP"]


def write_page(
    path: Path,
    title: str,
    summaries: Sequence[Summary],
    names: Sequence[str],
    pictures: Mapping[str, Mapping[str, Path]],
    rows: Sequence[Row],
    notes: Sequence[str] = (),
) -> None:
    """Write the page.

    Args:
        summaries, names: rows and columns of the table.
        pictures: picture files by reference and method; low-quality ones are shown with enlarged pixels.
        rows: values to show below the pictures.
        notes: sentences below the table.
    """
    values = {(row.key, row.method): row.values for row in rows}
    data = []
    for key, files in pictures.items():
        images = {method: _read(file) for method, file in files.items()}
        size = _size(images.values())
        views = [
            {
                "method": method,
                "url": _url(image, size),
                "values": _shown(values.get((key, method)), names),
            }
            for method, image in images.items()
        ]
        data.append({"name": key, "views": views})
    template = asset_path(BENCHMARK_PAGE).read_text(encoding="utf-8")
    # Otherwise "<" in a name could end the script.
    script = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    content = (
        template.replace("{{title}}", html.escape(title))
        .replace("{{table}}", _table(summaries, names))
        .replace("{{notes}}", "".join(f"<p>{html.escape(note)}</p>" for note in notes))
        .replace("{{data}}", script)
    )
    write_atomically(path, content.encode(errors="backslashreplace"), VARestorerError)


def _table(summaries: Sequence[Summary], names: Sequence[str]) -> str:
    places = ranks(summaries, names)
    lines = ["<thead><tr><th>method</th>"]
    lines += [f"<th>{html.escape(MEASURES[n].heading)}</th>" for n in names]
    lines.append("</tr></thead><tbody>")
    for summary in summaries:
        kind = ' class="paper"' if summary.of_paper else ""
        lines.append(f"<tr{kind}><th>{html.escape(summary.method)}</th>")
        for name in names:
            value = summary.mean.get(name)
            place = {1: ' class="best"', 2: ' class="second"'}.get(
                places.get((summary.method, name), 0), ""
            )
            text = "" if value is None else f"{value:.{MEASURES[name].digits}f}"
            lines.append(f"<td{place}>{text}</td>")
        lines.append("</tr>")
    return "".join([*lines, "</tbody>"])


def _shown(values: Mapping[str, float | None] | None, names: Sequence[str]) -> str:
    if values is None:
        return ""
    known = [(MEASURES[n], values[n]) for n in names if values.get(n) is not None]
    return ", ".join(f"{measure.title} {value:.{measure.digits}f}" for measure, value in known)


def _read(file: Path) -> Image.Image:
    """Return a picture as the measures read it: upright, in RGB."""
    return Image.fromarray(np.ascontiguousarray(to_uint8(read_picture(file).rgb)))


def _size(images: Iterable[Image.Image]) -> tuple[int, int]:
    """Return the (width, height) of the largest picture, reduced if WebP cannot hold it."""
    width, height = max((image.size for image in images), key=math.prod)
    scale = min(1.0, _LONGEST_SIDE / max(width, height))
    return max(1, int(width * scale)), max(1, int(height * scale))


def _url(image: Image.Image, size: tuple[int, int]) -> str:
    """Return a picture as a data URL; a smaller one with enlarged pixels, a larger one reduced."""
    if image.size != size:
        smaller = image.width <= size[0] and image.height <= size[1]
        image = image.resize(size, Image.Resampling.NEAREST if smaller else Image.Resampling.BOX)
    content = io.BytesIO()
    image.save(content, "WEBP", quality=_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode("ascii")
