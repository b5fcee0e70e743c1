"""The comparisons that every kind of evidence shares: a root, a bit, a value out of a list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attestation.policy.claims import Ledger, Unchecked
from attestation.policy.fields import Flag, OneOf
from attestation.verify.verified import TrustAnchor
from measurements.reference import ReferenceValues

MAKERS: Final = {"snp": "a hardware root", "tdx": "Intel's root", "gpu": "NVIDIA's root"}


def judge_root(ledger: Ledger, kind: str, rule: str, named: frozenset[bytes] | Unchecked, root: TrustAnchor) -> None:
    """A pinned hardware root always will do, a simulated one only if the policy names its key."""
    ledger.judge(
        f"{kind}.root",
        rule,
        named,
        met=lambda simulated: not root.simulated or root.spki_sha256 in simulated,
        expected=lambda simulated: (
            f"{MAKERS[kind]}{f', or one of {len(simulated)} named simulated roots' if simulated else ''}"
        ),
        got=f"{root.name}{f' (simulated, {root.spki_sha256.hex()})' if root.simulated else ''}",
    )


def judge_flag(ledger: Ledger, code: str, rule: str, requirement: Flag | Unchecked, bit: bool) -> None:
    ledger.judge(
        code,
        rule,
        requirement,
        met=lambda flag: flag.met_by(bit),
        expected=lambda flag: "set" if flag is Flag.REQUIRED else "clear",
        got="set" if bit else "clear",
    )


def judge_one_of(
    ledger: Ledger,
    references: ReferenceValues,
    reference: str,
    rule: str,
    requirement: OneOf | Unchecked,
    got: bytes,
    *,
    code: str | None = None,
) -> None:
    """`got` is among the policy's values or the reference values. The claim is named like the reference."""
    ledger.judge(
        code or reference.replace("_", "-"),
        rule,
        requirement,
        met=listed(references, reference, got),
        expected=listing(references, reference),
        got=got.hex(),
    )


def allowed(requirement: OneOf, references: ReferenceValues, reference: str) -> frozenset[bytes]:
    return references.allowed(reference) if requirement.from_references else requirement.values


def listed(references: ReferenceValues, reference: str, got: bytes | None) -> Callable[[OneOf], bool]:
    return lambda requirement: got is not None and got in allowed(requirement, references, reference)


def listing(references: ReferenceValues, reference: str) -> Callable[[OneOf], str]:
    def text(requirement: OneOf) -> str:
        values = allowed(requirement, references, reference)
        if len(values) == 1:
            return next(iter(values)).hex()
        source = "reference values" if requirement.from_references else "values of the policy"
        return f"one of {len(values)} {source}"

    return text
