"""Facts as a small, safe piece of HTML, which a notebook shows. Pure.

It inherits the colours of the page around it, so it can be read on light and on dark.
"""

from __future__ import annotations

import re
from html import escape as escape_html
from typing import Iterable, Optional, Sequence, Tuple

from arkor_sync._common.secret import redact
from arkor_sync._common.text import safe_text

Facts = Iterable[Tuple[str, Optional[str]]]

_MAX_NAME = 500  # characters of a name, an id, a status or a fact
_MAX_REASON = 5000  # characters
_TIMESTAMP = re.compile(r"^([\d-]{10})[Tt ]([\d:]{8})(?:\.\d+)?[Zz]$")


def escape(text: object, limit: Optional[int] = None) -> str:
    """Make a text safe to show, and escape it for HTML.

    Args:
        text: Any text.
        limit: The most characters of it that are kept; None for all.
    """
    return escape_html(safe_text(text, limit))


def facts_html(facts: Facts) -> str:
    """Return names and values as a list of definitions; those without a value are left out.

    A time of ISO 8601 in UTC is shortened to its seconds.
    """
    shown = [(name, _TIMESTAMP.sub(r"\1 \2 UTC", value)) for name, value in facts if value]
    items = (
        f"<div><dt>{escape(name, _MAX_NAME)}</dt><dd>{escape(value, _MAX_NAME)}</dd></div>"
        for name, value in shown
    )
    return f"<dl>{''.join(items)}</dl>"


def table_html(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str) -> str:
    """Return a table in a box that scrolls sideways.

    Args:
        head: The names of the columns; without any there is no head.
        rows: The cells of each row.
        kind: The class of the table, for the style of the page.
    """
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join(f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in cells)}</tr>" for cells in rows)
    heading = f"<thead><tr>{top}</tr></thead>" if any(head) else ""
    return f'<div class="wide"><table class="{kind}">{heading}<tbody>{lines}</tbody></table></div>'


def tone_of(status: str, failed: bool = False) -> str:
    """Return the class of a status, which gives it its colour: `good`, `bad` or `other`.

    Args:
        status: The status of a job or a run.
        failed: Whether the run ended with an error, whatever the status is.
    """
    if failed or status == "failed":
        return "bad"
    return "good" if status == "completed" else "other"


def card_html(
    name: str,
    facts: Facts,
    *,
    status: str = "",
    failed: bool = False,
    id: str = "",
    reason: str = "",
    more: str = "",
) -> str:
    """Return a heading with facts below it, for the output of a notebook's cell.

    Args:
        name: What it is about: a job's name.
        facts: Names and values.
        status: Stands below the name, in the colour of `tone_of`.
        failed: See `tone_of`.
        id: Stands beside the status.
        reason: Why it has this status. What looks like a secret in it is not shown.
        more: HTML that follows.
    """
    tone = tone_of(status, failed)
    reason = redact(safe_text(reason))
    return "".join(
        (
            f'<div class="arkor-card"><style>{_STYLE}</style>',
            f'<div class="name">{escape(name, _MAX_NAME)}</div>',
            f'<span class="status {tone}">{escape(status, _MAX_NAME)}</span> ' if status else "",
            f'<span class="id">{escape(id, _MAX_NAME)}</span>' if id else "",
            f'<div class="reason">{escape(reason, _MAX_REASON)}</div>' if reason else "",
            facts_html(facts),
            more,
            "</div>",
        )
    )


# JupyterLab lets the `dt` of a `dl` float: the rules for both set that back. The text of a status
# has the colour of the page; that of its border can be seen on a white and on a black page.
_STYLE = "".join(
    f".arkor-card{rule}"
    for rule in """\
{font:14px/1.45 system-ui,sans-serif;overflow-wrap:anywhere;padding:.3em 0}
 .name{font-size:1.2em;font-weight:600;margin-bottom:.3em}
 .status{display:inline-block;padding:0 .6em;margin-right:.4em;border:2px solid;\
border-radius:1em;font-weight:600}
 .good{border-color:#27873d}
 .bad{border-color:#d9403a}
 .other{border-color:#8a63d2}
 .id{font:.9em ui-monospace,monospace;opacity:.75}
 .reason{white-space:pre-wrap;margin-top:.5em}
 dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(13.5em,45%),1fr));\
gap:.6em 1em;margin:.8em 0}
 dt,.arkor-card dd{float:none;width:auto;margin:0;padding:0}
 dt{font-size:.85em;font-weight:400;opacity:.75}
""".splitlines()
)
