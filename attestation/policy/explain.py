"""A policy in words: each field, what it accepts, and what would be open if it did not.

For people who approve policies and do not write them. The text is made from the same declarations the
appraisal uses, so it can't drift from what is judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum

from attestation.policy.claims import Unchecked
from attestation.policy.document import SECTIONS, Policy
from attestation.policy.fields import Flag, OneOf, Required, rules_of

UNCHECKED_MARK = "not looked at"


def explain(policy: Policy) -> str:
    """The whole policy as text, one field after another, with what it leaves open at the end."""
    lines = [f"policy {policy.id}", f"accepts: {policy.about}"]
    for name, kind in SECTIONS.items():
        section = policy.sections.get(name)
        if section is None:
            lines += ["", f"[{name}] absent: evidence of this kind is refused"]
            continue
        lines += ["", f"[{name}]", *_section(kind, section)]
    return "\n".join(lines)


def _section(kind: type, section: object) -> list[str]:
    checked: list[str] = []
    unchecked: list[str] = []
    for rule in rules_of(kind):
        value = getattr(section, rule.name)
        if isinstance(value, Unchecked):
            unchecked += [
                f"  {rule.name} ({rule.rule}): {UNCHECKED_MARK}: {value.reason}",
                f"      left open: {rule.about}",
            ]
        else:
            checked += [f"  {rule.name} ({rule.rule}): {words(value)}", f"      because otherwise: {rule.about}"]
    return [*checked, *(["", "  left open, each with its reason:"] if unchecked else []), *unchecked]


def words(value: object) -> str:
    """One policy value as a person would say it."""
    match value:
        case Flag():
            return "must be set" if value is Flag.REQUIRED else "must be clear"
        case Required():
            return "required"
        case OneOf(from_references=True):
            return "one of the reference values"
        case OneOf(values=values):
            return "one of " + (", ".join(sorted(item.hex() for item in values)) or "nothing: always refused")
        case Enum():
            return str(value.value)
        case Mapping():
            return "; ".join(f"{words(key)}: {words(item)}" for key, item in value.items())
        case frozenset():
            return " or ".join(sorted(words(item) for item in value)) or "none"
        case tuple() if all(is_dataclass(item) for item in value):
            return "; ".join(_row(item) for item in value)
        case tuple():
            return ".".join(str(item) for item in value)
        case bytes():
            return value.hex()
    return str(value)


def _row(item: object) -> str:
    parts = [getattr(item, field.name) for field in fields(item)]  # type: ignore[arg-type]
    return " ".join(words(part) for part in parts if part is not None)
