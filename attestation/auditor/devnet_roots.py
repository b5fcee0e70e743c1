"""Whom to believe on one devnet, in one file: its subnet, its simulated silicon, its one machine.

    subnet = "8f0c…"            the devnet subnet's root key
    tee = "3082…"               the simulated root's certificate (DER)

    [references.snp]            reference values, as `--references` takes them
    measurement = ["4d4d…"]

For a demo and its tests. No other thing is believed because of such a file, and no default reads one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from attestation.consensus.roots import parse_root_key
from attestation.evidence.certificates import read_certificate
from attestation.policy import document
from attestation.policy.document import Policy
from attestation.verify.ec_chain import spki_digest
from foundation.refusal import Refused
from measurements.reference import ReferenceValues

ROOTS_BYTES_MAX: Final = 1 << 20


class RootsRefused(Refused):
    """The file is not one of a devnet's roots."""

    stage = "devnet roots"


@dataclass(frozen=True, slots=True)
class DevnetRoots:
    """A subnet's root key, a simulated root, and what the devnet's machine reports of itself."""

    subnet: bytes
    tee: bytes
    references: ReferenceValues

    def encode(self) -> bytes:
        tables: dict[str, list[str]] = {}
        for claim, values in sorted(self.references.values.items()):
            tee, _, name = claim.partition(".")
            listed = ", ".join(f'"{value.hex()}"' for value in sorted(values))
            tables.setdefault(tee, []).append(f"{name} = [{listed}]")
        lines = [
            "# A devnet's roots: they say nothing about any hardware or any other network.",
            f'subnet = "{self.subnet.hex()}"',
            f'tee = "{self.tee.hex()}"',
        ]
        for tee, rows in tables.items():
            lines += ["", f"[references.{tee}]", *rows]
        return ("\n".join(lines) + "\n").encode()

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises a `Refused`, nothing else."""
        if len(raw) > ROOTS_BYTES_MAX:
            raise RootsRefused("roots.size", expected=f"<= {ROOTS_BYTES_MAX} bytes", got=len(raw))
        try:
            fields = tomllib.loads(raw.decode())
        except (ValueError, RecursionError) as reason:
            raise RootsRefused("roots.toml", expected="TOML in UTF-8", got=type(reason).__name__) from None
        if fields.keys() - {"references"} != {"subnet", "tee"}:
            raise RootsRefused("roots.fields", expected="subnet, tee and references", got=", ".join(fields)[:80])
        tee = _hex(fields, "tee")
        read_certificate(tee)
        return cls(parse_root_key(_hex(fields, "subnet")), tee, _references(fields.get("references", {})))

    @property
    def policy(self) -> Policy:
        """The strict policy, except that it names this devnet's root."""
        digest = spki_digest(read_certificate(self.tee)).hex()
        return document.parse(
            (
                'name = "devnet"\nabout = "simulated machines of one devnet: says nothing about any hardware"\n'
                'extends = "strict"\n\n'
                f'[snp]\nsimulated_roots = ["{digest}"]\n\n[tdx]\nsimulated_roots = ["{digest}"]\n'
            ).encode(),
            called="devnet",
        )


def _hex(fields: Mapping[str, object], name: str) -> bytes:
    value = fields[name]
    try:
        return bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        raise RootsRefused(f"roots.{name}", expected="hexadecimal", got="another text") from None


def _references(tables: object) -> ReferenceValues:
    if not isinstance(tables, dict):
        raise RootsRefused("roots.references", expected="tables", got=type(tables).__name__)
    values: dict[str, list[bytes]] = {}
    for tee, table in tables.items():
        for name, listed in table.items() if isinstance(table, dict) else [("", None)]:
            if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
                raise RootsRefused("roots.references", expected="lists of hexadecimal", got="others")
            values[f"{tee}.{name}"] = [_hex({"references": each}, "references") for each in listed]
    return ReferenceValues.of(values)
