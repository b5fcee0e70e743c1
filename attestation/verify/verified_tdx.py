"""What verification of a TDX quote hands on: facts a policy may judge, and no certificate.

Made in `attestation.verify.tdx` and `attestation.verify.event_log` alone; see `attestation.verify.verified`
for what the seal is worth.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from attestation.evidence.event_log import LogEvent
from attestation.evidence.kinds import TeeFormat
from attestation.evidence.sgx_extension import PckIdentity
from attestation.evidence.tdx_collateral import TcbStatus
from attestation.evidence.tdx_quote import TdReport
from attestation.verify.verified import SEAL, Seal, TrustAnchor
from measurements.launch.measurement import TdxRegisters


@dataclass(frozen=True, slots=True)
class TcbStanding:
    """How well patched a platform is: the merged status, its three parts, and every advisory that applies."""

    status: TcbStatus
    platform: TcbStatus
    module: TcbStatus
    quoting_enclave: TcbStatus
    advisories: tuple[str, ...]
    date: datetime | None


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """What dcap-qvl said. `declined` is empty where it verified the quote to the end."""

    status: str
    declined: str


@dataclass(frozen=True, slots=True)
class BoundEvent:
    """One event of a log that replays. `bound` says whether its data, too, is what was measured."""

    event: LogEvent
    bound: bool


@dataclass(frozen=True, slots=True)
class VerifiedEventLog:
    """An event log whose replay gives the four RTMRs of a verified quote.

    The digests are what the trust domain measured, in this order. What the log says a digest stands for is
    proven only where `bound`: a firmware that lies about unbound data is not caught by replay.
    """

    events: tuple[BoundEvent, ...]
    seal: Seal = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.seal is not SEAL:
            raise TypeError("VerifiedEventLog is made by attestation.verify.event_log alone")


@dataclass(frozen=True, slots=True)
class VerifiedTdx:
    """A TDX quote whose signatures, chain, collateral and bindings hold at `verified_at`.

    It says that a TDX module on a platform under `root` made `report`. It does not say that the values are
    wanted, nor that the quote is new: freshness is whether `report.report_data` holds what the relying
    party chose.
    """

    root: TrustAnchor
    report: TdReport
    quote_version: int
    pck: PckIdentity
    tcb: TcbStanding
    evaluation_number: int
    collateral_until: datetime
    verified_at: datetime
    second_opinion: SecondOpinion
    signed_digest: bytes
    event_log: VerifiedEventLog | None
    seal: Seal = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.seal is not SEAL:
            raise TypeError("VerifiedTdx is made by attestation.verify.tdx alone")

    @property
    def chip(self) -> bytes:
        return self.pck.ppid

    @property
    def format(self) -> TeeFormat:
        return TeeFormat.TDX

    @property
    def launch(self) -> TdxRegisters:
        return TdxRegisters(self.report.mr_td, self.report.rtmrs)

    @property
    def report_data(self) -> bytes:
        return self.report.report_data

    @property
    def debug(self) -> bool:
        return self.report.debug

    @property
    def tcb_words(self) -> str:
        return self.tcb.status.value
