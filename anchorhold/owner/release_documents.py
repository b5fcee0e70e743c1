"""What the `release` verbs do: read documents, make the next proposal, put decisions together, walk a history."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.pages.voter import voters_page
from anchorhold.verbs.verify.verdict import UsageRefused
from attestation.adoption import executed_reply
from foundation.refusal import difference
from measurements.governance.actions import Adopt, Payload
from measurements.governance.authority import Authority, Chain, authority_digest, parse_authority
from measurements.governance.charter import sign
from measurements.governance.decision import CertifiedReply, Decision, Signatures, decision_digest
from measurements.governance.history import Decided, History, Ledger
from measurements.governance.proposal import Proposal, launch_measurements
from measurements.release.manifest import Manifest

SEED_BYTES: Final = 32
PAYLOAD_FILE: Final = "payload.bin"


def read_manifest(path: Path) -> Manifest:
    return Manifest.parse(path.read_bytes())


def read_authority(path: Path) -> Authority:
    return parse_authority(path.read_bytes())


def read_ledger(
    authority: Authority, history: Path | None, known: Iterable[bytes] = ()
) -> tuple[Ledger, tuple[Decided, ...]]:
    """Where a history stands, every decision of it proven; without a file, its beginning."""
    if history is None:
        return Ledger.begin(authority), ()
    return History.parse(history.read_bytes()).verify(authority_digest(authority), executed_reply, known)


def write_proposal(proposal: Proposal, folder: Path, subaccount: bytes | None) -> list[Path]:
    """What is submitted and what voters read, in a new folder. Nothing is written where something stands."""
    files = {
        PAYLOAD_FILE: proposal.payload.encode(),
        "summary.md": proposal.summary.encode(),
        "proposal.html": voters_page(proposal),
    }
    if isinstance(proposal.payload.action, Adopt):
        manifest = proposal.payload.action.manifest
        files |= {"manifest.json": manifest.encode(), "launch-measurements.json": launch_measurements(manifest.launch)}
    if proposal.function is not None:
        if subaccount is None:
            raise UsageRefused("usage.subaccount", expected="--subaccount of the neuron that proposes", got="none")
        files["manage-neuron.hex"] = proposal.manage_neuron(subaccount).hex().encode() + b"\n"
    folder.mkdir(parents=True)
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    return [folder / name for name in files]


def again(ledger: Ledger, payload: Payload) -> Proposal:
    """The proposal that made this payload, made from it alone. Refused unless the history would accept it next."""
    proposal = Proposal.of(ledger, payload.action)
    if proposal.payload != payload:
        raise UsageRefused(
            "usage.payload",
            expected=f"decision {len(ledger.digests) + 1} of this history",
            got=f"decision {payload.position} of another",
        )
    return proposal


def member_signature(seed: bytes, authority: Authority, payload: bytes) -> str:
    """One member's voice, as a text to be sent around."""
    if len(seed) != SEED_BYTES:
        raise UsageRefused(
            "usage.key", expected=f"a key file of {SEED_BYTES} bytes in hexadecimal", got=f"{len(seed)} bytes"
        )
    Payload.parse(payload)
    digest = decision_digest(authority_digest(authority), payload)
    key, signature = sign(Ed25519PrivateKey.from_private_bytes(seed), digest)
    return f"{key.hex()}:{signature.hex()}"


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
