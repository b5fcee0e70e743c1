"""Self-contained pages: one HTML file, no script, no font, no picture, nothing fetched from anywhere.

    page("title", "one sentence", [Section("What changes", [rows(...)])])

Everything that is not markup of ours is escaped, and the page forbids its reader's browser to load or run anything, so
that a document which was written by somebody else can be shown without being trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
STYLE: Final = """\
:root { color-scheme: light dark; --ink: #1c2733; --dim: #5b6875; --line: #d5dbe1; --warn: #8a4b00; --paper: #fdfdfb; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ec; --dim: #9aa7b4; --line: #3a4653; --warn: #ffc078; --paper: #161c22; }
}
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
       font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; color: var(--dim); }
th, td { border-top: 1px solid var(--line); padding: .4rem .6rem .4rem 0; text-align: left; vertical-align: top; }
th { font-weight: 600; width: 15rem; } code, pre { font: .85rem/1.45 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { border: 1px solid var(--line); padding: .8rem; white-space: pre-wrap; }
.dim { color: var(--dim); } .asks { color: var(--warn); }
@media (max-width: 40rem) { th, td { display: block; width: auto; } td { border-top: 0; } }
"""


@dataclass(frozen=True, slots=True)
class Html:
    """Markup that is ours already."""

    markup: str


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    parts: Sequence[Html]


def text(words: str) -> Html:
    return Html(f"<p>{escape(words)}</p>")


def code(words: str) -> Html:
    return Html(f"<pre>{escape(words)}</pre>")


def table(caption: str, rows: Iterable[tuple[str, str, str, bool]]) -> Html:
    """Rows of (name, value, remark, whether the remark asks for something). Values are shown as they are, in code."""
    lines = [f"<table><caption>{escape(caption)}</caption>"]
    for name, value, remark, asks in rows:
        note = f'<div class="{"asks" if asks else "dim"}">{escape(remark)}</div>' if remark else ""
        lines.append(f'<tr><th scope="row">{escape(name)}</th><td><code>{escape(value)}</code>{note}</td></tr>')
    return Html("\n".join([*lines, "</table>"]))


def page(title: str, lead: str, sections: Iterable[Section]) -> bytes:
    """The whole file."""
    body = [f"<h1>{escape(title)}</h1>", f"<p>{escape(lead)}</p>"]
    for section in sections:
        body += [f"<section><h2>{escape(section.title)}</h2>", *(part.markup for part in section.parts), "</section>"]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{STYLE}</style></head><body><main>",
            *body,
            "</main></body></html>",
            "",
        ]
    ).encode()
