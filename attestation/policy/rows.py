"""A claim as a row of a table, and the one loop that judges evidence by such a table.

A row names its claim, the field of the policy that decides it, what is read of the evidence and when the claim is met.
The field also names the rule of the specification (`fields.ruled`), so a rule is written down once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from attestation.policy.claims import Claim, ClaimStanding, Unchecked
from attestation.policy.fields import Flag, OneOf, rules_of
from attestation.verify.verified import TrustAnchor
from measurements.reference import ReferenceValues

E = TypeVar("E")

MAKERS: Final = {"snp": "a hardware root", "tdx": "Intel's root", "gpu": "NVIDIA's root"}


@dataclass(frozen=True, slots=True)
class Facts(Generic[E]):
    """What a row may look at: verified evidence, and the values somebody vouches for."""

    evidence: E
    references: ReferenceValues


@dataclass(frozen=True, slots=True)
class Row(Generic[E]):
    """One claim. `met` and `expected` are given what the policy requires and the facts; `got` the evidence alone.

    `requirement` stands in where what is required does not follow from one field of the policy.
    """

    code: str
    field: str
    met: Callable[[Any, Facts[E]], bool]
    expected: Callable[[Any, Facts[E]], str]
    got: Callable[[E], object]
    collateral: bool = False
    requirement: Callable[[Any, E], object] | None = None

    def judge(self, policy: object, rule: str, facts: Facts[E]) -> Claim:
        got = str(self.got(facts.evidence))
        required = getattr(policy, self.field) if self.requirement is None else self.requirement(policy, facts.evidence)
        if isinstance(required, Unchecked):
            return Claim(self.code, rule, ClaimStanding.UNCHECKED, f"unchecked: {required.reason}", got)
        standing = ClaimStanding.MET if self.met(required, facts) else ClaimStanding.NOT_MET
        return Claim(self.code, rule, standing, self.expected(required, facts), got, self.collateral)


def judged(rows: Iterable[Row[E]], policy: object, evidence: E, references: ReferenceValues) -> tuple[Claim, ...]:
    """Every claim of the table about `evidence`, met or not, in the order of the table."""
    rules = {field.name: field.rule for field in rules_of(type(policy))}
    facts = Facts(evidence, references)
    return tuple(row.judge(policy, rules[row.field], facts) for row in rows)


# Rows that several tables have.


def plain(
    code: str,
    field: str,
    met: Callable[[Any, E], bool],
    expected: Callable[[Any], str] | str,
    *,
    got: Callable[[E], object],
    collateral: bool = False,
) -> Row[E]:
    """A comparison that needs no reference values."""
    text = expected if callable(expected) else lambda _: expected
    return Row(
        code,
        field,
        lambda required, facts: met(required, facts.evidence),
        lambda required, _: text(required),
        got,
        collateral,
    )


def root(kind: str) -> Row[Any]:
    """A pinned hardware root always will do, a simulated one only if the policy names its key."""

    def accepted(named: frozenset[bytes], evidence: Any) -> bool:
        anchor: TrustAnchor = evidence.root
        return not anchor.simulated or anchor.spki_sha256 in named

    def shown(evidence: Any) -> str:
        anchor: TrustAnchor = evidence.root
        return f"{anchor.name}{f' (simulated, {anchor.spki_sha256.hex()})' if anchor.simulated else ''}"

    return plain(
        f"{kind}.root",
        "simulated_roots",
        accepted,
        lambda named: f"{MAKERS[kind]}{f', or one of {len(named)} named simulated roots' if named else ''}",
        got=shown,
    )


def flag(code: str, field: str, bit: Callable[[E], bool]) -> Row[E]:
    return plain(
        code,
        field,
        lambda wanted, evidence: wanted.met_by(bit(evidence)),
        _set_or_clear,
        got=lambda evidence: "set" if bit(evidence) else "clear",
    )


def bits_flag(code: str, field: str, bits: Callable[[E], int]) -> Row[E]:
    """A flag over several bits, which are shown where any of them is set."""
    return plain(
        code,
        field,
        lambda wanted, evidence: wanted.met_by(bits(evidence) != 0),
        _set_or_clear,
        got=lambda evidence: f"set ({bits(evidence):#x})" if bits(evidence) else "clear",
    )


def listed(code: str, field: str, reference: str, value: Callable[[E], bytes | None], *, absent: str = "") -> Row[E]:
    """The value is among the policy's or, where the policy says so, among the reference values of that name."""

    def met(wanted: OneOf, facts: Facts[E]) -> bool:
        got = value(facts.evidence)
        return got is not None and got in allowed(wanted, facts.references, reference)

    def expected(wanted: OneOf, facts: Facts[E]) -> str:
        values = allowed(wanted, facts.references, reference)
        if len(values) == 1:
            return next(iter(values)).hex()
        return f"one of {len(values)} {'reference values' if wanted.from_references else 'values of the policy'}"

    def got(evidence: E) -> str:
        found = value(evidence)
        return absent if found is None else found.hex()

    return Row(code, field, met, expected, got)


def word(code: str, field: str, value: Callable[[E], str]) -> Row[E]:
    """A text out of the policy's list."""
    return plain(
        code,
        field,
        lambda wanted, evidence: value(evidence) in wanted,
        any_of,
        got=lambda evidence: value(evidence) or "not stated",
    )


def at_least(code: str, field: str, value: Callable[[E], int], *, collateral: bool = False) -> Row[E]:
    return plain(
        code,
        field,
        lambda least, evidence: value(evidence) >= least,
        lambda least: f">= {least}",
        got=value,
        collateral=collateral,
    )


def allowed(requirement: OneOf, references: ReferenceValues, reference: str) -> frozenset[bytes]:
    return references.allowed(reference) if requirement.from_references else requirement.values


def any_of(names: Iterable[str]) -> str:
    return " or ".join(sorted(names)) or "none"


def _set_or_clear(wanted: Flag) -> str:
    return "set" if wanted is Flag.REQUIRED else "clear"
