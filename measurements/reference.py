"""Reference values: the measurements, chips and keys somebody vouches for, by claim.

A document is TOML: one table per TEE, one list of hex strings per claim.

    [snp]
    measurement = ["7fa052fb…"]        # launch digests of the released image
    chip_id = ["1af1aa6c…"]            # the machines of the fleet

What it does not establish: that these values are right. Whoever signs the document says so; who may sign
is `measurements.governance`'s matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Self

from foundation.document import SPACED_HEX, Fields, hexadecimal, toml_table
from foundation.refusal import Refused
from measurements.launch.measurement import LaunchMeasurement, SnpLaunchDigest, TdxRegisters

DOCUMENT_BYTES_MAX: Final = 1 << 20
VALUES_PER_CLAIM_MAX: Final = 65_536

# Every claim that can be compared with reference values, and the sizes a value may have in bytes.
SIZES: Final[Mapping[str, frozenset[int]]] = MappingProxyType(
    {
        "snp.measurement": frozenset({48}),
        "snp.host_data": frozenset({32}),
        "snp.report_data": frozenset({64}),
        "snp.chip_id": frozenset({8, 64}),
        "snp.id_key_digest": frozenset({48}),
        "snp.author_key_digest": frozenset({48}),
        "snp.family_id": frozenset({16}),
        "snp.image_id": frozenset({16}),
        "tdx.ppid": frozenset({16}),
        "tdx.fmspc": frozenset({6}),
        "tdx.report_data": frozenset({64}),
        "tdx.events": frozenset({48}),
        "gpu.nonce": frozenset({32}),
        "gpu.device": frozenset({32}),
    }
    | {
        f"tdx.{register}": frozenset({48})
        for register in (
            "mr_td",
            "mr_seam",
            "mr_signer_seam",
            "mr_config_id",
            "mr_owner",
            "mr_owner_config",
            "rtmr0",
            "rtmr1",
            "rtmr2",
            "rtmr3",
        )
    }
)


class ReferenceRefused(Refused):
    """A reference document is not one: the message names the claim and what fits there."""

    stage = "reference values"


@dataclass(frozen=True, slots=True)
class ReferenceValues:
    """For each claim the set of values that are allowed. A claim without values allows nothing."""

    values: Mapping[str, frozenset[bytes]]

    @classmethod
    def none(cls) -> Self:
        """No values at all: every claim that asks for a reference value is then unmet."""
        return cls(MappingProxyType({}))

    @classmethod
    def of(cls, values: Mapping[str, Iterable[bytes]]) -> Self:
        """From bytes in hand; refuses a claim that is not known and a value of a wrong size."""
        checked = {claim: frozenset(allowed) for claim, allowed in values.items()}
        for claim, allowed in checked.items():
            _check(claim, allowed)
        return cls(MappingProxyType(checked))

    @classmethod
    def parse(cls, document: bytes) -> Self:
        """From a TOML document. Raises `ReferenceRefused` alone."""
        return cls.of_tables(toml_table(document, "reference", ReferenceRefused, bytes_max=DOCUMENT_BYTES_MAX))

    @classmethod
    def of_tables(cls, tables: object) -> Self:
        """From what TOML says in such a document or in a part of a larger one. Raises `ReferenceRefused` alone."""
        return cls.of(_claims(Fields(tables, "reference", ReferenceRefused)))

    def allowed(self, claim: str) -> frozenset[bytes]:
        return self.values.get(claim, frozenset())

    @classmethod
    def of_launches(cls, launches: Iterable[LaunchMeasurement]) -> Self:
        """What reports and quotes of machines with these measurements say."""
        values: dict[str, list[bytes]] = {}
        for launch in launches:
            match launch:
                case SnpLaunchDigest(digest):
                    registers = {"snp.measurement": digest}
                case TdxRegisters(mr_td, rtmrs):
                    registers = {"tdx.mr_td": mr_td} | {f"tdx.rtmr{number}": each for number, each in enumerate(rtmrs)}
            for claim, value in registers.items():
                values.setdefault(claim, []).append(value)
        return cls.of(values)

    def joined(self, other: ReferenceValues) -> ReferenceValues:
        """Both sets of values: what either vouches for."""
        claims = self.values.keys() | other.values.keys()
        return ReferenceValues(MappingProxyType({c: self.allowed(c) | other.allowed(c) for c in claims}))


def _check(claim: str, allowed: frozenset[bytes]) -> None:
    sizes = SIZES.get(claim)
    if sizes is None:
        raise ReferenceRefused("reference.claim", expected=f"one of {', '.join(sorted(SIZES))}", got=claim)
    if len(allowed) > VALUES_PER_CLAIM_MAX:
        raise ReferenceRefused(f"reference.{claim}", expected=f"<= {VALUES_PER_CLAIM_MAX} values", got=len(allowed))
    for value in allowed:
        if len(value) not in sizes:
            wanted = " or ".join(str(size) for size in sorted(sizes))
            raise ReferenceRefused(f"reference.{claim}", expected=f"{wanted} bytes", got=f"{len(value)} bytes")


def _claims(document: Fields) -> Mapping[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for tee in document:
        table = document.fields(tee)
        for name in table:
            values = table.items(name, VALUES_PER_CLAIM_MAX)
            found[f"{tee}.{name}"] = [
                hexadecimal(value, f"reference.{tee}.{name}", ReferenceRefused, form=SPACED_HEX) for value in values
            ]
    return found
