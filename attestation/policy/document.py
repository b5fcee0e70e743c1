"""Policy documents: TOML in, a frozen `Policy` out, or an error naming the line, the field and what fits.

    name = "our fleet"
    about = "Genoa machines of our two sites"
    extends = "strict"                       # optional: a built-in policy whose fields these replace

    [snp]
    chip_id = "reference"
    host_data = { unchecked = "no init data is used" }

Every field of a section is present, here or in what is extended; an unknown key is refused. A TEE whose
section is absent is refused altogether. Rules: docs/spec/evidence.md E130 to E134.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import resources
from types import MappingProxyType
from typing import Any, Final

from attestation.errors import PolicyMalformed
from attestation.policy.fields import OneOf, Unfit, rules_of
from attestation.policy.gpu import GpuPolicy
from attestation.policy.snp import SnpPolicy
from attestation.policy.tdx import TdxPolicy
from foundation.digests import tagged_sha256
from foundation.document import toml_table
from foundation.refusal import shown

DOCUMENT_BYTES_MAX: Final = 1 << 20
TAG: Final = "anchorhold/policy/v1"

# One entry per kind of evidence: the table's name in the document and the class that declares its fields.
SECTIONS: Final[Mapping[str, type]] = MappingProxyType({"snp": SnpPolicy, "tdx": TdxPolicy, "gpu": GpuPolicy})


@dataclass(frozen=True, slots=True)
class Policy:
    """What one relying party accepts. A section that is None refuses evidence of its kind."""

    name: str
    about: str
    digest: bytes
    sections: Mapping[str, object]

    @property
    def id(self) -> str:
        """Name and digest, as they stand in an appraisal."""
        return f"{self.name}@{self.digest.hex()[:16]}"

    @property
    def uses_references(self) -> bool:
        """Whether anything is compared with reference values."""
        values = (getattr(part, rule.name) for part in self.sections.values() for rule in rules_of(type(part)))
        return any(isinstance(value, OneOf) and value.from_references for value in values)

    @property
    def snp(self) -> SnpPolicy | None:
        section = self.sections.get("snp")
        return section if isinstance(section, SnpPolicy) else None

    @property
    def tdx(self) -> TdxPolicy | None:
        section = self.sections.get("tdx")
        return section if isinstance(section, TdxPolicy) else None

    @property
    def gpu(self) -> GpuPolicy | None:
        section = self.sections.get("gpu")
        return section if isinstance(section, GpuPolicy) else None


def parse(document: bytes, *, called: str = "policy") -> Policy:
    """A policy from its TOML bytes; `called` is what errors call the document. Raises `PolicyMalformed`."""
    source = _Source(called, document)
    table, texts = _resolved(source)
    sections = {name: _section(SECTIONS[name], source, name, fields) for name, fields in table.items()}
    if not sections:
        raise source.unfit((), expected=f"a section: {_listed(SECTIONS)}", got="none")
    return Policy(
        name=source.text("name"),
        about=source.text("about"),
        digest=tagged_sha256(TAG, *(len(text).to_bytes(4, "big") + text for text in texts)),
        sections=MappingProxyType(sections),
    )


def builtin(name: str) -> Policy:
    """A policy that ships with the package."""
    return parse(_builtin_bytes(name), called=f"builtin {name}")


def builtin_names() -> tuple[str, ...]:
    folder = resources.files("attestation.policy") / "builtin"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def _builtin_bytes(name: str) -> bytes:
    if name not in builtin_names():
        raise PolicyMalformed("policy.extends", expected=f"one of {_listed(builtin_names())}", got=shown(name))
    return (resources.files("attestation.policy") / "builtin" / f"{name}.toml").read_bytes()


class _Source:
    """One document: its tables, and where each key stands."""

    def __init__(self, called: str, document: bytes) -> None:
        self.called = called
        self.document = document
        self.table = self._toml()

    def _toml(self) -> dict[str, Any]:
        return toml_table(
            self.document, "policy", partial(PolicyMalformed, hint=self.called), bytes_max=DOCUMENT_BYTES_MAX
        )

    def text(self, key: str) -> str:
        value = self.table.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.unfit((key,), expected="a text", got="no value" if value is None else shown(value))
        return value

    def unfit(self, path: tuple[str, ...], *, expected: str, got: object, hint: str | None = None) -> PolicyMalformed:
        """The refusal for what stands at `path`, with its line if the document has one for it."""
        line = line_of(self.document, path)
        place = f"{self.called}, line {line}" if line else self.called
        where = ".".join(path) or "document"
        return PolicyMalformed(
            f"policy.{where}", expected=expected, got=got, hint=f"{place}: {hint}" if hint else place
        )


def _resolved(source: _Source) -> tuple[dict[str, dict[str, Any]], list[bytes]]:
    """The sections of a document over those of what it extends, and the texts both came from."""
    base: dict[str, dict[str, Any]] = {}
    texts = [source.document]
    if "extends" in source.table:
        parent = _Source(f"builtin {shown(source.table['extends'])}", _builtin_bytes(source.text("extends")))
        base, parents = _resolved(parent)
        texts += parents
    own = _own_sections(source)
    for name, fields in own.items():
        base[name] = {**base.get(name, {}), **fields}
    return base, texts


def _own_sections(source: _Source) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for key, value in source.table.items():
        if key in ("name", "about", "extends"):
            continue
        if key not in SECTIONS:
            known = ["name", "about", "extends", *SECTIONS]
            raise source.unfit((key,), expected=f"one of {_listed(known)}", got=key, hint=_closest(key, known))
        if not isinstance(value, dict):
            raise source.unfit((key,), expected="a table", got=shown(value))
        found[key] = value
    return found


def _section(kind: type, source: _Source, name: str, given: Mapping[str, object]) -> object:
    rules = {rule.name: rule for rule in rules_of(kind)}
    for key in given:
        if key not in rules:
            raise source.unfit((name, key), expected=f"a field of [{name}]", got=key, hint=_closest(key, rules))
    values: dict[str, object] = {}
    for key, rule in rules.items():
        if key not in given:
            raise source.unfit(
                (name, key), expected='a value or { unchecked = "why" }', got="no value", hint=rule.about
            )
        try:
            values[key] = rule.read(given[key])
        except Unfit as complaint:
            raise source.unfit((name, key), expected=complaint.expected, got=complaint.got) from None
    return kind(**values)


def line_of(document: bytes, path: tuple[str, ...]) -> int | None:
    """The line on which a key, or the table it would stand in, is written; None where neither is found."""
    table: tuple[str, ...] = ()
    nearest: int | None = None
    for number, line in enumerate(document.decode("utf-8", "replace").splitlines(), start=1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line):
            table = tuple(part.strip().strip("\"'") for part in header[1].split("."))
            here = table
        elif key := re.match(r"\s*([\w-]+|\"[^\"]*\"|'[^']*')\s*=", line):
            here = (*table, key[1].strip("\"'"))
        else:
            continue
        if here == path:
            return number
        if here == path[:-1] and here:
            nearest = number
    return nearest


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _closest(key: str, known: Iterable[str]) -> str | None:
    near = difflib.get_close_matches(key, list(known), n=1)
    return f'did you mean "{near[0]}"?' if near else None
