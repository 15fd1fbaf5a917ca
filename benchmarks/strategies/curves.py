"""A line chart as SVG, by hand: one file, no dependency, readable in a diff."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 190, 40, 50
_COLOURS = (
    *("#1b6ca8", "#d1495b", "#2e933c", "#8e5ea2", "#e3a018", "#00798c"),
    *("#555555", "#a05195", "#b07d62", "#003f5c", "#7a9e9f", "#c2185b"),
)


def chart(title: str, across: str, xs: Sequence[float], lines: Mapping[str, Sequence[float]]) -> str:
    """Lines over *xs*; the upright axis is regret in nats, logarithmic."""
    low = max(0.01, min(min(line) for line in lines.values()) * 0.8)
    high = max(max(line) for line in lines.values()) * 1.1
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(value: float) -> float:
        return _LEFT + inner_width * (value - xs[0]) / (xs[-1] - xs[0])

    def y(value: float) -> float:
        return _TOP + inner_height * math.log(high / max(value, low)) / math.log(high / low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">{escape(title)}</text>',
    ]
    for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0):
        if low <= tick <= high:
            parts.append(
                f'<line x1="{_LEFT}" x2="{_LEFT + inner_width}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#ddd"/>'
            )
            parts.append(f'<text x="{_LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in xs:
        if tick % 50 == 0:
            parts.append(f'<text x="{x(tick):.1f}" y="{_HEIGHT - 30}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{_LEFT + inner_width / 2}" y="{_HEIGHT - 10}" text-anchor="middle">{escape(across)}</text>')
    ends = sorted((line[-1], name) for name, line in lines.items())
    place = {name: at for at, (_, name) in enumerate(reversed(ends))}
    for at, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[at % len(_COLOURS)]
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(xs, line, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        down = _TOP + 14 + 22 * place[name]
        parts.append(f'<text x="{_LEFT + inner_width + 12}" y="{down}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
