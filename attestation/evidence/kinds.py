"""Which technology a piece of evidence says it comes from, and the evidence as the machine handed it out.

`TeeKind` is a closed set. A simulated TEE has kinds of its own: it speaks the same formats under roots of its
own, and no policy that accepts one of the genuine kinds accepts it (docs/spec/evidence-production.md E126).
Nothing here is believed: a kind is a claim until a chain ends at the root that belongs to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import assert_never


class TeeKind(Enum):
    SNP = "snp"
    TDX = "tdx"
    SIMULATED_SNP = "simulated-snp"
    SIMULATED_TDX = "simulated-tdx"

    @property
    def simulated(self) -> bool:
        return self in (TeeKind.SIMULATED_SNP, TeeKind.SIMULATED_TDX)

    @property
    def format(self) -> TeeFormat:
        """The wire format of this kind's report, which a simulated kind shares with the genuine one."""
        match self:
            case TeeKind.SNP | TeeKind.SIMULATED_SNP:
                return TeeFormat.SNP
            case TeeKind.TDX | TeeKind.SIMULATED_TDX:
                return TeeFormat.TDX
            case _:
                assert_never(self)


class TeeFormat(Enum):
    SNP = "snp report"
    TDX = "tdx quote"

    @property
    def section(self) -> str:
        """The table that policies and reference values have for it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one quote request gave: the signed report, and what came beside it. Neither is believed yet.

    `auxblob` is the certificate table a host may lay beside an SNP report (E116); empty when there is none.
    """

    kind: TeeKind
    report: bytes
    auxblob: bytes = b""
