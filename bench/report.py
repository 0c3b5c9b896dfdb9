"""Results as a table in Markdown, and as a picture."""

from collections.abc import Sequence
from html import escape

from bench.rows import Better, Row

_HEADING = (
    "| path | target | ratio (min to max) | met | daemon | yardstick | beside it |\n|---|---|---|---|---|---|---|\n"
)
_WIDTH, _LINE, _LEFT = 900, 26, 430


def table(rows: Sequence[Row], *, heading: bool = True) -> str:
    """Return rows as a table."""
    return (_HEADING if heading else "") + "\n".join(_line(row) for row in rows)


def _line(row: Row) -> str:
    plain = row.plain()
    notes = ", ".join(f"{value:,.{0 if value >= 100 else 2}f} {name}" for name, value in plain["notes"].items())
    spread = f"{row.ratio:.2f} ({min(row.ratios):.2f} to {max(row.ratios):.2f})"
    met = "yes" if row.met else "**no**"
    figures = f"{_short(plain['measured'])} {row.unit} | {_short(plain['yardstick'])} {row.unit}"
    return f"| {row.name} | {row.target} | {spread} | {met} | {figures} | {notes} |"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def plot(rows: Sequence[Row]) -> str:
    """Return a picture: how far each row is from its target, which is the line at 1; more is better."""
    scale = (_WIDTH - _LEFT - 60) / 2
    body = []
    for number, row in enumerate(rows):
        share = min(row.ratio / row.bound if row.better is Better.MORE else row.bound / row.ratio, 2)
        top = number * _LINE + 30
        color = "#2a7" if row.met else "#c52"
        body.append(
            f'<text x="{_LEFT - 8}" y="{top + 14}" text-anchor="end">{escape(row.name)}</text>'
            f'<rect x="{_LEFT}" y="{top}" width="{share * scale:.0f}" height="{_LINE - 8}" fill="{color}"/>'
            f'<text x="{_LEFT + share * scale + 6:.0f}" y="{top + 14}">{row.ratio:.2f}</text>'
        )
    height = len(rows) * _LINE + 40
    line = f'<line x1="{_LEFT + scale:.0f}" x2="{_LEFT + scale:.0f}" y1="22" y2="{height - 10}" stroke="#333"/>'
    title = f'<text x="{_LEFT + scale:.0f}" y="16" text-anchor="middle">target</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="12">{title}{"".join(body)}{line}</svg>\n'
    )
