"""HTML of results, for notebooks and for pages: one style, legible on light and on dark ground.

All text is escaped; there are no scripts, and nothing is loaded.
"""

import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from html import escape
from typing import Any, ClassVar

STYLE = """
.precsim{color:inherit;font:14px/1.45 system-ui,sans-serif}
.precsim h1{font-size:1.5em;line-height:1.2;margin:.2em 0 .5em;overflow-wrap:anywhere}
.precsim h2{font-size:1.12em;margin:1.8em 0 .4em}
.precsim p{margin:.4em 0;overflow-wrap:anywhere}
.precsim .title{font-weight:600}
.precsim .soft{opacity:.78;font-size:.92em}
.precsim .wide{overflow-x:auto;margin:.4em 0}
.precsim table{border-collapse:collapse;font-size:.9em;font-variant-numeric:tabular-nums}
.precsim th,.precsim td{padding:.22em .6em;text-align:left;vertical-align:top;color:inherit;
border:0;border-bottom:1px solid rgba(128,128,128,.4);background:none}
.precsim th{vertical-align:bottom;font-weight:600}
.precsim tbody th{vertical-align:top}
.precsim thead th{border-bottom:1px solid rgba(128,128,128,.8)}
.precsim .n{text-align:right;white-space:nowrap}
.precsim th.n{white-space:normal}
.precsim pre{margin:.4em 0;overflow-x:auto;color:inherit;background:none;font-size:.9em}
"""
"""Of all that stands in an element of class ``precsim``; colours are those of the ground."""

_PAGE = """
body{margin:0;color:#1b1f24;background:#fff}
main{max-width:70em;margin:0 auto;padding:1.2em 1em 3em}
@media (prefers-color-scheme:dark){body{color:#e6edf3;background:#14181d}}
@media print{body{color:#000;background:#fff}main{max-width:none;padding:0;font-size:10pt}
.precsim .wide{overflow:visible}.precsim tr{break-inside:avoid}
.precsim thead{display:table-header-group}}
"""


class InNotebooks:
    """A dataclass that notebooks show as a table of its fields; `_further` names properties.

    Examples
    --------
    >>> import precsim as ps
    >>> "<td>2**-14</td>" in ps.get_format("fp16")._repr_html_()
    True
    """

    __slots__ = ()
    _further: ClassVar[tuple[str, ...]] = ()

    def _repr_html_(self) -> str:
        """Return the fields for a notebook."""
        return facts(str(self), _described(self))


def fragment(*parts: str, style: str = "") -> str:
    """Return HTML for the output of a cell; `style` is of this kind of result only."""
    return f'<div class="precsim"><style>{STYLE}{style}</style>{"".join(parts)}</div>'


def page(title: str, body: Iterable[str], *, style: str = "") -> str:
    """Return a whole page; `style` comes after the common one."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{STYLE}{_PAGE}{style}</style></head>\n"
        f'<body><main class="precsim">{"".join(body)}</main></body></html>\n'
    )


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph, of class "title" or "soft" if that is given."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: Sequence[str] = ()
) -> str:
    """Return a table; columns that are named `numeric` stand to the right.

    Examples
    --------
    >>> '<tr><td class="n">1</td><td>&lt;</td></tr>' in table("ab", ["1<"], numeric="a")
    True
    """
    kinds = [' class="n"' if name in numeric else "" for name in header]

    def line(tag: str, cells: Sequence[str]) -> str:
        pairs = zip(kinds, cells, strict=True)
        return f"<tr>{''.join(f'<{tag}{kind}>{escape(c)}</{tag}>' for kind, c in pairs)}</tr>"

    body = "".join(line("td", row) for row in rows)
    return (
        f'<div class="wide"><table><thead>{line("th", header)}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def facts(title: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Return a title and a table of names and values for the output of a cell."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in pairs
    )
    body = f'<div class="wide"><table><tbody>{rows}</tbody></table></div>'
    return fragment(paragraph(title, "title"), body)


def preformatted(text: str) -> str:
    """Return text whose columns are aligned, for the output of a cell."""
    return fragment(f"<pre>{escape(text)}</pre>")


def _described(shown: Any) -> list[tuple[str, str]]:
    """Return the fields and further properties of a dataclass, without those that are empty."""
    names = [each.name for each in fields(shown) if each.name not in ("name", "source")]
    found = []
    for name in (*names, *shown._further):
        try:
            value = getattr(shown, name)
        except ValueError:  # float64 does not have it
            continue
        if value not in (None, "") and not isinstance(value, tuple):  # which the title has
            found.append((name.replace("_", " ").strip(), _text(value)))
    return found


def _text(value: Any) -> str:
    """Write a value: yes or no, a power of two as such."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, float):
        fraction, exponent = math.frexp(value)
        text = f"{value:.17g}"
        return f"2**{exponent - 1}" if fraction == 0.5 and len(text) > 6 else text
    return str(value)
