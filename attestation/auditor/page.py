"""The audit as a page: one file that needs no network, no script and no knowledge of any of this.

At the top a verdict in one sentence, under it the chain of trust from the silicon to the answer, each link with a mark,
a word and a reason, and under that every check by name. Colour never says anything alone. What came from the bundle is
escaped, and the page's own policy forbids it to load or run anything. Pure: a report in, text out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from html import escape
from typing import Final

from attestation.auditor.findings import Finding, FindingStanding, Report, Stage

WIDTH, ROW, LEFT, RADIUS = 760, 92, 46, 22
PALETTE: Final = {
    "light": {
        "paper": "#ffffff",
        "ink": "#1b1f24",
        "quiet": "#57606a",
        "line": "#d0d7de",
        "holds": "#116329",
        "fails": "#a40e26",
        "open": "#57606a",
    },
    "dark": {
        "paper": "#0d1117",
        "ink": "#e6edf3",
        "quiet": "#9198a1",
        "line": "#3d444d",
        "holds": "#56d364",
        "fails": "#ff8182",
        "open": "#9198a1",
    },
}
"""Every colour is read on `paper`; the tests hold each to a contrast of 4.5 at least."""


SIMULATED: Final = (
    "The silicon in this bundle is simulated. Everything else is real, but nothing here speaks for any hardware."
)


class State(Enum):
    """How a link stands, as a word and a mark."""

    HOLDS = ("holds", "Holds", "✓")
    FAILS = ("fails", "Broken", "✗")
    OPEN = ("open", "Not judged", "–")

    @property
    def style(self) -> str:
        return self.value[0]

    @property
    def word(self) -> str:
        return self.value[1]

    @property
    def mark(self) -> str:
        return self.value[2]


@dataclass(frozen=True, slots=True)
class Link:
    """One link of the chain: what it is, what it promises when it holds, and which stages it is made of."""

    name: str
    promise: str
    stages: tuple[Stage, ...]


CHAIN: Final = (
    Link(
        "The silicon",
        "A processor of a vendor you believe signed for this machine, and for the keys made in it.",
        (Stage.EVIDENCE,),
    ),
    Link(
        "The machine and its software",
        "It runs the software you expect, with the settings you expect, and is in good order.",
        (Stage.CONFIG, Stage.POLICY),
    ),
    Link(
        "The permission",
        "The owner of the model handed its key to this very machine, and wrote that down first.",
        (Stage.RELEASE,),
    ),
    Link(
        "The order",
        "A network of independent computers, not the operator, decided which questions were asked, and in which order.",
        (Stage.ORDER,),
    ),
    Link(
        "The receipts",
        "Every question has exactly one receipt, signed by the machine. None is missing, none was changed.",
        (Stage.RECEIPTS,),
    ),
    Link(
        "The log",
        "The machine vouched for all its receipts together. There is one history, and these are part of it.",
        (Stage.LOG,),
    ),
    Link("The answers", "The answers shown are, byte for byte, the ones the receipts name.", (Stage.ANSWERS,)),
    Link("The price", "Each answer cost what the measured price says.", (Stage.METERING,)),
    Link(
        "The computation, done again",
        "The same questions were computed again, elsewhere, and gave the same words.",
        (Stage.REPLAY,),
    ),
)


def page(report: Report, *, title: str, at: datetime | None = None) -> str:
    """The whole document. `title` names the bundle for people; `at` is when it was audited, if that is to be said."""
    links = [
        (link, _state(report, link), _reason(report, link))
        for link in CHAIN
        if link.stages != (Stage.REPLAY,) or report.of(Stage.REPLAY)
    ]
    verdict, sentence = _verdict(report)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{escape(verdict)} – {escape(title)}</title>",
            f"<style>{_style()}</style>",
            "</head>",
            "<body>",
            "<main>",
            "<header>",
            f'<p class="kind">Audit of {escape(title)}</p>',
            f'<h1 class="{"holds" if report.ok else "fails"}">{escape(verdict)}</h1>',
            f'<p class="sentence">{escape(sentence)}</p>',
            *([f'<p class="simulated">{escape(SIMULATED)}</p>'] if report.simulated else []),
            "</header>",
            _facts(report, at),
            '<section aria-labelledby="chain">',
            '<h2 id="chain">From the silicon to the answer</h2>',
            _drawing(links),
            "</section>",
            '<section aria-labelledby="checks">',
            '<h2 id="checks">Every check</h2>',
            *(_details(report, link, state) for link, state, _ in links),
            _form(report),
            "</section>",
            _claims(report),
            _footer(),
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _verdict(report: Report) -> tuple[str, str]:
    if report.ok:
        open_ = sum(finding.standing is FindingStanding.UNCHECKED for finding in report.findings)
        rest = f" {_count(open_, 'thing')} could not be looked at; each says why." if open_ else ""
        return "Everything holds", (
            f"{_count(sum(f.standing is FindingStanding.HOLDS for f in report.findings), 'check')} were made "
            f"and none failed.{rest}"
        )
    first = report.failed[0]
    return "Do not rely on this", (
        f"{_count(len(report.failed), 'check')} failed. The first: it does not hold that {first.what}."
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _state(report: Report, link: Link) -> State:
    standings = {finding.standing for stage in link.stages for finding in report.of(stage)}
    if FindingStanding.FAILS in standings:
        return State.FAILS
    if FindingStanding.NOT_REACHED in standings or not standings & {FindingStanding.HOLDS}:
        return State.OPEN
    return State.HOLDS


def _reason(report: Report, link: Link) -> str:
    findings = [finding for stage in link.stages for finding in report.of(stage)]
    for standing in (FindingStanding.FAILS, FindingStanding.NOT_REACHED):
        found = next((finding for finding in findings if finding.standing is standing), None)
        if found is None:
            continue
        cell = f" (cell {found.cell + 1})" if found.cell is not None else ""
        if standing is FindingStanding.FAILS:
            return f"It does not hold{cell} that {found.what}."
        return f"Not judged{cell}, because {found.got.replace('it rests on: ', 'it rests on ')} did not hold."
    if report.simulated and Stage.EVIDENCE in link.stages:
        return "Simulated: a stand-in signed, as a processor would, for this machine and for the keys made in it."
    return link.promise


# -- the drawing


def _drawing(links: list[tuple[Link, State, str]]) -> str:
    """The chain from top to bottom. The text in it is text: it can be read aloud, found and copied."""
    height = ROW * len(links) + 8
    spoken = "; ".join(f"{link.name}: {state.word.lower()}" for link, state, _ in links)
    rows = [_row(number, *each, last=number == len(links) - 1) for number, each in enumerate(links)]
    return "\n".join(
        [
            f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="drawn said">',
            '<title id="drawn">The chain of trust</title>',
            f'<desc id="said">{escape(spoken)}</desc>',
            *rows,
            "</svg>",
        ]
    )


def _row(number: int, link: Link, state: State, reason: str, *, last: bool) -> str:
    top = ROW * number + 8
    middle = top + RADIUS + 4
    lines = _wrapped(reason, 86)
    parts = [f'<g class="link {state.style}" data-link="{escape(link.name)}" data-state="{state.style}">']
    if not last:
        dash = "" if state is State.HOLDS else ' stroke-dasharray="4 6"'
        parts.append(f'<line x1="{LEFT}" y1="{middle + RADIUS}" x2="{LEFT}" y2="{middle + ROW - RADIUS}"{dash}/>')
    parts += [
        f'<circle cx="{LEFT}" cy="{middle}" r="{RADIUS}"/>',
        f'<text class="mark" x="{LEFT}" y="{middle + 8}" text-anchor="middle">{state.mark}</text>',
        f'<text class="name" x="{LEFT + 44}" y="{top + 18}">{escape(link.name)}',
        f'<tspan class="word" dx="10">{state.word}</tspan></text>',
        *(
            f'<text class="reason" x="{LEFT + 44}" y="{top + 38 + 17 * at}">{escape(line)}</text>'
            for at, line in enumerate(lines[:3])
        ),
        "</g>",
    ]
    return "".join(parts)


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


# -- the tables


def _facts(report: Report, at: datetime | None) -> str:
    facts = [*report.facts, *([("audited", f"{at:%Y-%m-%d %H:%M:%S}Z")] if at else [])]
    if not facts:
        return ""
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f'<dl class="facts">{rows}</dl>'


def _details(report: Report, link: Link, state: State) -> str:
    findings = [finding for stage in link.stages for finding in report.of(stage)]
    shown = " open" if state is not State.HOLDS else ""
    made = sum(finding.standing is FindingStanding.HOLDS for finding in findings)
    return "\n".join(
        [
            f"<details{shown}>",
            f'<summary><span class="{state.style}">{state.mark} {state.word}</span> {escape(link.name)}',
            f'<span class="quiet">{made} of {_count(len(findings), "check")} held</span></summary>',
            _table(findings),
            "</details>",
        ]
    )


_STATES: Final = {
    FindingStanding.HOLDS: State.HOLDS,
    FindingStanding.FAILS: State.FAILS,
    FindingStanding.UNCHECKED: State.OPEN,
    FindingStanding.NOT_REACHED: State.OPEN,
}
_WORDS: Final = {
    FindingStanding.HOLDS: "holds",
    FindingStanding.FAILS: "fails",
    FindingStanding.UNCHECKED: "not looked at",
    FindingStanding.NOT_REACHED: "not reached",
}


def _table(findings: list[Finding]) -> str:
    rows = "\n".join(_finding(finding) for finding in findings)
    return (
        '<div class="wide"><table><thead><tr><th scope="col">Check</th><th scope="col">Stands</th>'
        '<th scope="col">What was found</th><th scope="col">Rule</th></tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _finding(finding: Finding) -> str:
    state = _STATES[finding.standing]
    cell = "" if finding.cell is None else f' <span class="quiet">cell {finding.cell + 1}</span>'
    got = escape(finding.got)
    if finding.standing is FindingStanding.FAILS:
        got = f"expected {escape(finding.expected)}<br>found {got}"
    return (
        f'<tr data-code="{escape(finding.code)}" data-standing="{_WORDS[finding.standing]}">'
        f"<td>{escape(finding.what[:1].upper() + finding.what[1:])}{cell}<br><code>{escape(finding.code)}</code></td>"
        f'<td class="{state.style}">{state.mark} {_WORDS[finding.standing]}</td>'
        f"<td>{got}</td><td><code>{escape(finding.rule)}</code></td></tr>"
    )


def _form(report: Report) -> str:
    findings = list(report.of(Stage.FORM))
    shown = " open" if any(finding.standing is FindingStanding.FAILS for finding in findings) else ""
    return f"<details{shown}><summary>The file itself</summary>\n{_table(findings)}\n</details>"


def _claims(report: Report) -> str:
    """Every claim of the policy, for those who want to know what a machine in good order is."""
    if not report.appraisals:
        return ""
    parts = []
    for cell, appraisal in report.appraisals:
        rows = "\n".join(
            f"<tr><td><code>{escape(claim.code)}</code></td><td>{escape(claim.standing.value)}</td>"
            f"<td>{escape(claim.expected[:160])}</td><td>{escape(claim.got[:160])}</td>"
            f"<td><code>{escape(claim.rule)}</code></td></tr>"
            for claim in appraisal.claims
        )
        parts.append(
            f"<details><summary>Cell {cell + 1}: {_count(len(appraisal.claims), 'claim')} of "
            f"{escape(appraisal.policy_id)}</summary>\n"
            '<div class="wide"><table><thead><tr><th scope="col">Claim</th><th scope="col">Stands</th>'
            '<th scope="col">Wanted</th><th scope="col">Found</th><th scope="col">Rule</th></tr></thead>\n'
            f"<tbody>\n{rows}\n</tbody></table></div></details>"
        )
    return "\n".join(
        ['<section aria-labelledby="claims">', '<h2 id="claims">Claims about the machine</h2>', *parts, "</section>"]
    )


def _footer() -> str:
    return (
        "<footer><p>This page was made from one file, without a network. It says what that file shows and no more: "
        "not that an answer is true or wise, not that it reached anybody, and not that there is no other machine. "
        "The rules are those of docs/spec; anybody with the file and the program gets the same findings.</p></footer>"
    )


def _style() -> str:
    def variables(name: str) -> str:
        return "".join(f"--{colour}:{value};" for colour, value in PALETTE[name].items())

    return (
        f":root{{{variables('light')}}}"
        f"@media(prefers-color-scheme:dark){{:root{{{variables('dark')}}}}}"
        "*{box-sizing:border-box}"
        "body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,sans-serif}"
        "main{max-width:860px;margin:0 auto;padding:40px 20px 60px}"
        "h1{font-size:34px;line-height:1.2;margin:4px 0 8px}h2{font-size:20px;margin:40px 0 12px}"
        ".kind{margin:0;color:var(--quiet)}.sentence{font-size:18px;margin:0;max-width:62ch}"
        ".holds{color:var(--holds)}.fails{color:var(--fails)}.open,.quiet{color:var(--quiet)}"
        ".simulated{margin:16px 0 0;padding:10px 14px;border:2px dashed var(--fails);font-weight:600}"
        ".facts{display:flex;flex-wrap:wrap;gap:10px 32px;margin:24px 0 0;padding:16px 0;"
        "border:solid var(--line);border-width:1px 0}"
        ".facts dt{font-size:13px;color:var(--quiet)}.facts dd{margin:0;font-variant-numeric:tabular-nums}"
        "svg{width:100%;height:auto;display:block}"
        "svg circle{fill:var(--paper);stroke-width:3}svg line{stroke-width:3}"
        "svg .holds circle,svg .holds line{stroke:var(--holds)}svg .fails circle,svg .fails line{stroke:var(--fails)}"
        "svg .open circle,svg .open line{stroke:var(--open)}"
        "svg .mark{font-size:22px;font-weight:700}svg .name{font-size:18px;font-weight:600;fill:var(--ink)}"
        "svg .word{font-size:14px}svg .reason{font-size:14.5px;fill:var(--quiet)}"
        "svg .holds .mark,svg .holds .word{fill:var(--holds)}svg .fails .mark,svg .fails .word{fill:var(--fails)}"
        "svg .open .mark,svg .open .word{fill:var(--open)}svg .fails .reason{fill:var(--ink)}"
        "details{border-bottom:1px solid var(--line);padding:10px 0}summary{cursor:pointer;font-weight:600}"
        "summary .quiet{font-weight:400;font-size:14px}summary:focus-visible{outline:3px solid var(--holds)}"
        ".wide{overflow-x:auto}table{width:100%;border-collapse:collapse;font-size:14px;margin:12px 0}"
        "th,td{text-align:left;vertical-align:top;padding:7px 14px 7px 0;border-top:1px solid var(--line)}"
        "th{color:var(--quiet);font-weight:600}td{overflow-wrap:anywhere;min-width:84px}"
        "code{font:13px/1.4 ui-monospace,monospace;color:var(--quiet)}"
        "footer{margin-top:48px;font-size:14px;color:var(--quiet);max-width:70ch}"
        "@media print{details{break-inside:avoid}main{padding:0}}"
    )
