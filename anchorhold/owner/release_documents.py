"""For the `release` verbs: reads documents, makes the next proposal, assembles decisions, checks a history."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from anchorhold.input_files import AUTHORITY, CELL_CONFIG, HISTORY, MANIFEST, UsageRefused
from anchorhold.pages.voter import voters_page
from appliance.config import MeasuredConfig
from attestation.adoption import executed_reply
from foundation.refusal import difference
from foundation.secrecy import Secret
from measurements.governance.actions import Adopt, Payload
from measurements.governance.authority import Authority, Chain, authority_digest, parse_authority
from measurements.governance.charter import sign
from measurements.governance.decision import CertifiedReply, Decision, Signatures, decision_digest
from measurements.governance.history import Decided, History, Ledger
from measurements.governance.proposal import Proposal, launch_measurements
from measurements.pack.keys import signing_key
from measurements.release.manifest import Manifest

PAYLOAD_FILE: Final = "payload.bin"
HISTORY_FILE: Final = "history.cbor"


def read_manifest(path: Path) -> Manifest:
    return MANIFEST.parsed(path, Manifest.parse)


def read_cell_config(path: Path) -> bytes:
    """The bytes of a measured configuration that a cell would start with (image.md I22)."""

    def servable(raw: bytes) -> bytes:
        MeasuredConfig.parse(raw)
        return raw

    return CELL_CONFIG.parsed(path, servable)


def read_authority(path: Path) -> Authority:
    return AUTHORITY.parsed(path, parse_authority)


def read_ledger(
    authority: Authority, history: Path | None, known: Iterable[bytes] = ()
) -> tuple[Ledger, tuple[Decided, ...]]:
    """Where a history stands, every decision of it proven; without a file, its beginning."""
    if history is None:
        return Ledger.begin(authority), ()
    stated = authority_digest(authority)
    return HISTORY.parsed(history, lambda raw: History.parse(raw).verify(stated, executed_reply, known))


def write_proposal(
    proposal: Proposal, folder: Path, subaccount: bytes | None, history: bytes | None = None
) -> list[Path]:
    """What is submitted and what voters read, in a new folder. Nothing is written where something stands.

    With a later proposal go the decisions before it: without them nobody can make its text again."""
    files = {
        PAYLOAD_FILE: proposal.payload.encode(),
        "summary.md": proposal.summary.encode(),
        "proposal.html": voters_page(proposal),
    }
    if isinstance(proposal.payload.action, Adopt):
        manifest = proposal.payload.action.manifest
        files |= {"manifest.json": manifest.encode(), "launch-measurements.json": launch_measurements(manifest.launch)}
    if history is not None:
        files[HISTORY_FILE] = history
    if proposal.function is not None:
        if subaccount is None:
            raise UsageRefused("usage.subaccount", expected="--subaccount of the neuron that proposes", got="none")
        files["manage-neuron.hex"] = proposal.manage_neuron(subaccount).hex().encode() + b"\n"
    folder.mkdir(parents=True)
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    return [folder / name for name in files]


def again(ledger: Ledger, payload: Payload) -> Proposal:
    """The proposal that made this payload, made from it and the decisions before it. Refused at another place."""
    before = payload.position - 1
    if len(ledger.digests) != before:
        earlier = {0: "no --history, since it is the first", 1: "--history with the decision before this one"}
        raise UsageRefused(
            "usage.history",
            expected=earlier.get(before, f"--history with the {before} decisions before this one"),
            got=f"{len(ledger.digests)} decisions",
            hint=HISTORY.remedy,
        )
    proposal = Proposal.of(ledger, payload.action)
    if proposal.payload != payload:
        raise UsageRefused(
            "usage.payload",
            expected=f"decision {len(ledger.digests) + 1} of this history",
            got=f"decision {payload.position} of another",
        )
    return proposal


def member_signature(seed: Secret, authority: Authority, payload: bytes) -> str:
    """One member's voice, as a text to be sent around."""
    digest = decision_digest(authority_digest(authority), checked_payload(payload))
    key, signature = sign(signing_key(seed), digest)
    return f"{key.hex()}:{signature.hex()}"


def checked_payload(raw: bytes) -> bytes:
    """The same bytes, once they are the payload of a proposal."""
    Payload.parse(raw)
    return raw


def certified_decision(payload: bytes, authority: Authority, reply: CertifiedReply) -> Decision:
    """A payload with the governance canister's word; refused here already if that is not what it says."""
    if not isinstance(authority, Chain):
        raise UsageRefused("usage.authority", expected="a chain, for a certificate", got="a charter")
    if executed_reply(reply, authority).payload != payload:
        raise UsageRefused(
            "usage.payload",
            expected="the payload that executed",
            got=difference(payload, executed_reply(reply, authority).payload),
        )
    return Decision(payload, reply)


def chartered_decision(payload: bytes, signatures: Iterable[str]) -> Decision:
    found = {}
    for text in signatures:
        key, _, signature = text.strip().partition(":")
        try:
            found[bytes.fromhex(key)] = bytes.fromhex(signature)
        except ValueError:
            raise UsageRefused(
                "usage.signature",
                expected="KEY:SIGNATURE in hexadecimal",
                got=f"{len(key)} and {len(signature)} characters",
            ) from None
    return Decision.parse(Decision(payload, Signatures(found)).encode())
