"""audit.md U35 to U38: the page says what the report says, to anyone, and neither loads nor runs anything."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from attestation.auditor.audit import audit
from attestation.auditor.audit_bundle import AuditBundle
from attestation.auditor.findings import Finding, FindingStanding, Report, Stage, Status
from attestation.auditor.page import CHAIN, PALETTE, page
from tests.little_audit import good, terms

REPORT = audit(good(), terms())
HTML = page(REPORT, title="bundle.anchorhold")
VOID = {"meta", "line", "circle", "br"}


class Reader(HTMLParser):
    """Elements with their attributes, and whether every one that was opened was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def states(html: str) -> dict[str, str]:
    return {at["data-link"]: at["data-state"] for tag, at in Reader(html).elements if tag == "g"}


def failing(stage: Stage, cell: int | None = None) -> Report:
    finding = Finding(
        stage, "a.code", "audit.md U1", "things are well", FindingStanding.FAILS, "one", "two", cell, Status.LOG
    )
    return replace(REPORT, findings=(*REPORT.findings, finding))


def test_every_link_holds_and_says_so() -> None:  # audit.md U35
    assert states(HTML) == {link.name: "holds" for link in CHAIN if Stage.REPLAY not in link.stages}
    assert "Everything holds" in HTML
    assert Reader(HTML).open == []


@pytest.mark.parametrize("stage", [each for each in Stage if each is not Stage.FORM], ids=lambda each: each.value)
def test_a_link_is_broken_by_its_own_stages_alone(stage: Stage) -> None:  # audit.md U35
    html = page(failing(stage, 0), title="x")
    broken = [name for name, state in states(html).items() if state == "fails"]
    assert broken == [link.name for link in CHAIN if stage in link.stages]
    assert "Do not rely on this" in html
    assert "It does not hold (cell 1) that things are well." in re.sub(r"</text><text[^>]*>", " ", html)


def test_a_link_that_was_not_reached_is_neither_green_nor_red() -> None:  # audit.md U35
    html = page(audit(b"", terms()), title="x")
    assert set(states(html).values()) == {"open"}
    assert "Do not rely on this" in html


def test_every_finding_and_every_claim_is_on_it() -> None:  # audit.md U36
    rows = [at for tag, at in Reader(HTML).elements if tag == "tr" and "data-code" in at]
    assert len(rows) == len(REPORT.findings)
    assert {at["data-code"] for at in rows} == {finding.code for finding in REPORT.findings}
    for _, appraisal in REPORT.appraisals:
        assert all(f"<code>{claim.code}</code>" in HTML for claim in appraisal.claims)


def test_it_loads_nothing_and_runs_nothing() -> None:  # audit.md U37
    reader = Reader(HTML)
    assert not {"script", "link", "img", "iframe", "object", "form", "base", "a"} & {tag for tag, _ in reader.elements}
    for _, attributes in reader.elements:
        assert not {"src", "href", "srcset", "action", "data", "xlink:href"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in HTML
    assert "@import" not in HTML
    assert "default-src 'none'" in HTML


def test_what_came_from_a_bundle_cannot_become_part_of_the_page() -> None:  # audit.md U37
    hostile = '</td><script>alert(1)</script><img src=x onerror=y>" onload="z'
    finding = Finding(Stage.ORDER, hostile, hostile, hostile, FindingStanding.FAILS, hostile, hostile, 0, Status.CHAIN)
    report = replace(REPORT, findings=(*REPORT.findings, finding), facts=((hostile, hostile),))
    reader = Reader(page(report, title=hostile))
    assert not {"script", "img"} & {tag for tag, _ in reader.elements}
    assert not any(name.startswith("on") for _, attributes in reader.elements for name in attributes)
    assert reader.open == []


def test_simulated_silicon_is_said_before_anything_else() -> None:  # audit.md U38
    assert HTML.index("The silicon in this bundle is simulated") < HTML.index("From the silicon")
    assert "A processor of a vendor" not in HTML
    real = page(replace(REPORT, simulated=False), title="x")
    assert "simulated. Everything" not in real
    assert "A processor of a vendor" in real


def test_the_same_report_is_the_same_page() -> None:  # audit.md U35
    assert page(REPORT, title="bundle.anchorhold") == HTML


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", sorted(PALETTE))
def test_text_can_be_read_in_either_scheme(scheme: str) -> None:  # audit.md U38
    paper = luminance(PALETTE[scheme]["paper"])
    for name in ("ink", "quiet", "holds", "fails", "open"):
        lighter, darker = sorted((paper, luminance(PALETTE[scheme][name])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, name


def test_the_drawing_is_told_to_those_who_cannot_see_it() -> None:  # audit.md U38
    html = page(failing(Stage.LOG), title="x")
    spoken = html[html.index("<desc") : html.index("</desc>")]
    assert "The log: broken" in spoken
    assert "The order: holds" in spoken
    drawing = next(at for tag, at in Reader(html).elements if tag == "svg")
    assert (drawing["role"], drawing["aria-labelledby"]) == ("img", "drawn said")
    assert [at["lang"] for tag, at in Reader(html).elements if tag == "html"] == ["en"]


def test_a_damaged_part_is_named_for_people() -> None:  # audit.md U3, U35
    bundle = AuditBundle.parse(good())
    bent = good().replace(bundle.answers[-40:], bytes(40))
    assert "Broken" in page(audit(bent, terms()), title="x")
