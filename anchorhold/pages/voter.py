"""The page a voter is handed with a proposal: the same facts as the summary and the command line, in one HTML file."""

from __future__ import annotations

from anchorhold.pages.html import Html, Section, code, page, table, text
from measurements.governance.actions import Adopt, AmendCharter, RevokeChips, RotateKey, Withdraw
from measurements.governance.proposal import WITHDRAWN_CELLS, Proposal, checking, ending
from measurements.release.changes import changes, facts


def voters_page(proposal: Proposal) -> bytes:
    lead = "A vote for this does what is said here and nothing else. The last section says how to check that."
    last = Section("What ties this page to what executes", [_ties(proposal)])
    return page(proposal.title, lead, [*_sections(proposal), last])


def _sections(proposal: Proposal) -> list[Section]:
    match proposal.payload.action:
        case Adopt(manifest):
            differences = changes(proposal.before, manifest)
            asked = sum(1 for change in differences if change.asks)
            return [
                Section(
                    "What changes",
                    [
                        text(f"{len(differences)} changes, {asked} of which ask you to trust something new."),
                        table(
                            "Compared with the release in force",
                            [
                                (
                                    change.topic,
                                    change.words,
                                    f"asks you to trust: {change.asks}" if change.asks else "",
                                    bool(change.asks),
                                )
                                for change in differences
                            ],
                        ),
                        text(ending(proposal.before, manifest)),
                    ],
                ),
                Section(
                    "What it is",
                    [
                        table(
                            "As the manifest says",
                            [(fact.topic, fact.value, fact.meaning, False) for fact in facts(manifest)],
                        )
                    ],
                ),
                Section("How to check it yourself", [code("\n".join(checking(manifest)))]),
            ]
        case Withdraw(version, manifest_digest, reason):
            return [
                Section(
                    "What it does",
                    [
                        text(f"Release {version} gets no key from now on, and never again. {WITHDRAWN_CELLS}"),
                        table(
                            "", [("manifest digest", manifest_digest.hex(), "", False), ("reason", reason, "", False)]
                        ),
                    ],
                )
            ]
        case RevokeChips(chips, reason):
            return [
                Section(
                    "What it does",
                    [
                        text("These machines get no key from now on, and never again."),
                        table(
                            "", [*(("chip", chip.hex(), "", False) for chip in chips), ("reason", reason, "", False)]
                        ),
                    ],
                )
            ]
        case RotateKey(resource, least_version, reason):
            return [
                Section(
                    "What it does",
                    [
                        text("Older versions of this secret are given out no more."),
                        table(
                            "",
                            [
                                ("secret", resource, "", False),
                                ("least version", str(least_version), "", False),
                                ("reason", reason, "", False),
                            ],
                        ),
                    ],
                )
            ]
        case AmendCharter(charter):
            return [
                Section(
                    "What it does",
                    [
                        text(f"From the next decision on, {charter.threshold} of these {len(charter.members)} decide."),
                        table("", [(member.name, member.key.hex(), "", False) for member in charter.members]),
                    ],
                )
            ]


def _ties(proposal: Proposal) -> Html:
    payload = proposal.payload.encode()
    return table(
        "Make this page again from the payload and the decisions before it: anchorhold release proposal",
        [
            ("payload", f"{len(payload)} bytes, digest {proposal.payload.digest.hex()}", "what executes", False),
            (
                "place",
                f"decision {proposal.payload.position} behind {proposal.payload.previous.hex()}",
                "any other place is refused",
                False,
            ),
            ("decision digest", proposal.digest.hex(), "what grants and receipts will carry", False),
        ],
    )
