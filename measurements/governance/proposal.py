"""A proposal: what is submitted, what voters read, and the digest that ties the two.

    proposal = Proposal.of(ledger, Adopt(manifest), url="https://…")
    proposal.manage_neuron(subaccount)      the argument of the SNS governance canister's manage_neuron, in Candid
    proposal.summary                        Markdown, part of the proposal itself
    proposal.digest                         the decision's digest: what grants and receipts will carry

The digest is over the payload and the authority. The summary names it; a summary that says otherwise than the payload
is found by whoever makes it again from the payload (`anchorhold release proposal`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, Self

from foundation.candid import BLOB, NAT64, TEXT, Opt, Record, Variant, encode
from measurements.governance.actions import (
    Action,
    Adopt,
    AmendCharter,
    Payload,
    RevokeChips,
    RotateKey,
    Withdraw,
    describe,
)
from measurements.governance.authority import Chain, authority_digest
from measurements.governance.decision import decision_digest
from measurements.governance.errors import PayloadRefused
from measurements.governance.history import Ledger
from measurements.release.changes import Fact, changes, facts
from measurements.release.manifest import Launch, Manifest

TITLE_CHARACTERS_MAX: Final = 256
SUMMARY_BYTES_MAX: Final = 30_000  # what an SNS takes
LAUNCHES_SHOWN_MAX: Final = 12

WITHDRAWN_CELLS: Final = (
    "Cells that run it go on to the end of the blocks they were granted: at most the lease of its manifest beyond the "
    "chain."
)

GENERIC_FUNCTION: Final = Record({"function_id": NAT64, "payload": BLOB})
_PROPOSAL: Final = Record(
    {
        "url": TEXT,
        "title": TEXT,
        "summary": TEXT,
        "action": Opt(Variant({"ExecuteGenericNervousSystemFunction": GENERIC_FUNCTION})),
    }
)
MANAGE_NEURON: Final = Record({"subaccount": BLOB, "command": Opt(Variant({"MakeProposal": _PROPOSAL}))})


@dataclass(frozen=True, slots=True)
class Proposal:
    payload: Payload
    digest: bytes
    function: int | None  # None: by a charter
    url: str
    before: Manifest | None  # the release in force when it was made

    @classmethod
    def of(cls, ledger: Ledger, action: Action, url: str = "") -> Self:
        """The next step of this history. Raises `HistoryRefused` for one that could never be accepted."""
        payload = ledger.next_payload(action)
        digest = decision_digest(authority_digest(ledger.authority), payload.encode())
        ledger.rehearse(action, digest)
        before = ledger.newest
        function = ledger.authority.function if isinstance(ledger.authority, Chain) else None
        return cls(payload, digest, function, url, None if before is None else before.manifest)

    @property
    def title(self) -> str:
        kind, subject = describe(self.payload.action)
        return f"Anchorhold: {kind.replace('-', ' ')} {subject}"[:TITLE_CHARACTERS_MAX]

    @property
    def summary(self) -> str:
        return "\n".join([f"# {self.title}", "", *self._body(), "", *self._ties(), ""])

    def manage_neuron(self, subaccount: bytes) -> bytes:
        """Raises `PayloadRefused` for a text longer than a governance canister takes."""
        if (size := len(self.summary.encode())) > SUMMARY_BYTES_MAX:
            raise PayloadRefused("proposal.summary", expected=f"at most {SUMMARY_BYTES_MAX} bytes", got=size)
        function = {"function_id": self.function or 0, "payload": self.payload.encode()}
        return encode(
            [MANAGE_NEURON],
            [
                {
                    "subaccount": subaccount,
                    "command": (
                        "MakeProposal",
                        {
                            "url": self.url,
                            "title": self.title,
                            "summary": self.summary,
                            "action": ("ExecuteGenericNervousSystemFunction", function),
                        },
                    ),
                }
            ],
        )

    def _body(self) -> list[str]:
        match self.payload.action:
            case Adopt(manifest):
                return [
                    *_adoption(self.before, manifest),
                    "",
                    ending(self.before, manifest),
                    "",
                    "## How to check it yourself",
                    "",
                    "```",
                    *checking(manifest),
                    "```",
                ]
            case Withdraw(version, manifest_digest, reason):
                return [
                    f"Release {version} gets no key from now on, and never again.",
                    "",
                    f"Manifest: `{manifest_digest.hex()}`",
                    "",
                    f"Reason: {reason}",
                    "",
                    WITHDRAWN_CELLS,
                ]
            case RevokeChips(chips, reason):
                return [
                    "These machines get no key from now on, and never again:",
                    "",
                    *(f"- `{chip.hex()}`" for chip in chips),
                    "",
                    f"Reason: {reason}",
                ]
            case RotateKey(resource, least_version, reason):
                return [
                    f"Of `{resource}` no version below {least_version} is given out from now on.",
                    "",
                    f"Reason: {reason}",
                ]
            case AmendCharter(charter):
                return [
                    f"From the next decision on, {charter.threshold} of these {len(charter.members)} decide:",
                    "",
                    *(f"- {member.name}: `{member.key.hex()}`" for member in charter.members),
                ]

    def _ties(self) -> list[str]:
        return [
            "## What ties this text to what executes",
            "",
            f"- payload, {len(self.payload.encode())} bytes, digest `{self.payload.digest.hex()}`",
            f"- decision {self.payload.position} behind `{self.payload.previous.hex()}`",
            f"- decision digest, which grants and receipts will carry: `{self.digest.hex()}`",
            "",
            self._again(),
        ]

    def _again(self) -> str:
        """A later text says what changes, so it takes the decisions before it as well."""
        command = "anchorhold release proposal PAYLOAD --authority AUTHORITY"
        before = self.payload.position - 1
        if not before:
            return f"`{command}` makes this text again from the payload alone."
        count = "the decision" if before == 1 else f"the {before} decisions"
        return f"`{command} --history HISTORY` makes this text again from the payload and {count} before it."


def launch_measurements(launch: Launch) -> bytes:
    """`launch-measurements.json`, in the shape that elections of GuestOS versions use."""
    rows = [
        {"measurement": list(each.measurement.digest), "metadata": {"kernel_cmdline": launch.command_line}}
        for each in launch.snp
    ]
    return json.dumps({"guest_launch_measurements": rows}, separators=(",", ":")).encode() + b"\n"


def _adoption(before: Manifest | None, manifest: Manifest) -> list[str]:
    lines = ["## What changes", ""]
    for change in changes(before, manifest):
        lines.append(f"- **{change.topic}**: {change.words}")
        if change.asks:
            lines.append(f"  - asks you to trust: {change.asks}")
    return [*lines, "", "## What it is", "", *(f"- {fact.topic}: `{fact.value}`" for fact in _shown(manifest))]


def _shown(manifest: Manifest) -> list[Fact]:
    """Every fact; where there are many launches, their number instead: a proposal's text is bounded."""
    launches = [*manifest.launch.snp, *manifest.launch.tdx]
    found = list(facts(manifest))
    if len(launches) <= LAUNCHES_SHOWN_MAX:
        return found
    kept = [fact for fact in found if not fact.topic.startswith(("SNP launch", "TDX launch"))]
    return [*kept, Fact("launch measurements", f"{len(launches)}, in the manifest inside the payload", "")]


def ending(before: Manifest | None, after: Manifest) -> str:
    """What becomes of the release in force."""
    if before is None:
        return "No release loses its keys by this."
    last = before.serves.heights.ended_by(after.serves.heights).last
    return (
        f"Release {before.version} answers its blocks up to {last}, and gets no key once the chain is a lease beyond."
    )


def checking(manifest: Manifest) -> list[str]:
    """The commands that build it again and show what came out."""
    return [
        f"git clone {manifest.rebuild.repository} source && cd source && git checkout {manifest.rebuild.commit}",
        *manifest.rebuild.commands,
        f"anchorhold release show measurements/values/{manifest.version}.json",
    ]
