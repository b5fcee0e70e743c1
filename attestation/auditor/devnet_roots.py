"""Whom to believe on one devnet, in one file: its subnet, its simulated silicon, its one machine.

    subnet = "8f0c…"            the devnet subnet's root key
    tee = "3082…"               the simulated root's certificate (DER)

    [references.snp]            reference values, as `--references` takes them
    measurement = ["4d4d…"]

For a demo and its tests. No other thing is believed because of such a file, and no default reads one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from attestation.consensus.roots import parse_root_key
from attestation.evidence.certificates import read_certificate
from attestation.policy import document
from attestation.policy.document import Policy
from attestation.verify.ec_chain import spki_digest
from foundation.document import SPACED_HEX, Fields, hexadecimal, toml_table
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
        table = toml_table(raw, "roots", RootsRefused, bytes_max=ROOTS_BYTES_MAX)
        references = ReferenceValues.of_tables(table.pop("references", {}))
        fields = Fields(table, "roots", RootsRefused)
        fields.only("subnet", "tee", code="roots.fields")
        subnet, tee = (
            hexadecimal(fields.take(name), f"roots.{name}", RootsRefused, form=SPACED_HEX) for name in ("subnet", "tee")
        )
        read_certificate(tee)
        return cls(parse_root_key(subnet), tee, references)

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
