"""The first links: what the cell was measured to believe, and what a subnet ordered (docs/spec/audit.md U5 to U11)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from attestation.auditor.audit_bundle import AskedPart, AuditBundle, Part
from attestation.auditor.errors import AuditRefused
from attestation.auditor.findings import Ledger, Stage
from attestation.auditor.measured import Measured
from attestation.auditor.terms import Terms
from attestation.consensus.blocks import Header, Kind, Request
from attestation.consensus.principal import to_text
from attestation.consensus.slices import SliceProof, VerifiedSlice, verify_slice
from foundation import merkle


@dataclass(frozen=True, slots=True)
class Place:
    """One request's place in the proven order. `kind` is None where the bundle withholds the request."""

    header: Header
    link: bytes
    index: int
    digest: bytes
    kind: Kind | None

    @property
    def id(self) -> int:
        return self.header.first_id + self.index


@dataclass(frozen=True, slots=True)
class Ordered:
    """What the subnet ordered, and when it said so."""

    slice: VerifiedSlice
    places: tuple[Place, ...]

    @property
    def certified_at(self) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.slice.certified_time_ns // 1000)


def check_whole(ledger: Ledger, bundle: AuditBundle, stage: Stage, part: Part, *, cell: int | None = None) -> bool:
    """U3: a part that does not fit its digest is damaged, and nothing else about it is looked at."""
    code = f"{stage.value}.whole" if part.value == stage.value else f"{stage.value}.{part.value}-whole"
    whole = (part, cell) not in bundle.damaged
    with ledger.check(
        stage, code, "audit.md U3", f"the part “{part.value}” is the one the bundle was made with", cell=cell
    ):
        if not whole:
            raise AuditRefused(
                "damaged", expected="the part its digest names", got="a part that does not fit its digest"
            )
    return whole


def check_config(ledger: Ledger, bundle: AuditBundle, terms: Terms) -> Measured | None:
    if not check_whole(ledger, bundle, Stage.CONFIG, Part.CONFIG):
        return None
    measured: Measured | None = None
    with ledger.check(
        Stage.CONFIG, "configuration.read", "audit.md U5", "the measured configuration can be read"
    ) as it:
        measured = Measured.parse(bundle.config)
        it.got = measured.digest.hex()
    if measured is None:
        return None
    with ledger.check(
        Stage.CONFIG,
        "configuration.subnet",
        "audit.md U6",
        "the cell was measured to believe the network that you believe",
    ) as it:
        if measured.root_key != terms.root_key:
            raise AuditRefused("root-key", expected=terms.root_key.hex()[:32], got=measured.root_key.hex()[:32])
        it.got = f"root key {measured.root_key.hex()[:16]}…"
    what = "the gateway is the one you asked about"
    if terms.gateway is None:
        ledger.unchecked(
            Stage.CONFIG,
            "configuration.gateway",
            "audit.md U6",
            what,
            f"no gateway was named; this is {_principal(measured.gateway)}",
        )
    else:
        with ledger.check(Stage.CONFIG, "configuration.gateway", "audit.md U6", what) as it:
            if measured.gateway != terms.gateway:
                raise AuditRefused("gateway", expected=_principal(terms.gateway), got=_principal(measured.gateway))
            it.got = _principal(measured.gateway)
    ledger.fact("gateway", _principal(measured.gateway))
    ledger.fact("engine", measured.engine)
    return measured


def check_order(ledger: Ledger, bundle: AuditBundle, terms: Terms, measured: Measured) -> Ordered | None:
    whole = check_whole(ledger, bundle, Stage.ORDER, Part.ORDER)
    whole = check_whole(ledger, bundle, Stage.ORDER, Part.ASKED) and whole
    if not whole:
        return None
    proven: VerifiedSlice | None = None
    with ledger.check(
        Stage.ORDER,
        "order.certificate",
        "order.md O14 to O18",
        "the subnet certified these blocks, in this order, with none between them",
    ) as it:
        proven = verify_slice(SliceProof.parse(bundle.order), root_key=terms.root_key, canister=measured.gateway)
        it.got = f"heights {proven.first.height} to {proven.head.height}"
    what = "the requests shown are the ones in those blocks, each of them"
    if proven is None:
        ledger.not_reached(Stage.ORDER, "order.requests", "audit.md U8", what, wants="the certificate")
        return None
    ordered: Ordered | None = None
    with ledger.check(Stage.ORDER, "order.requests", "audit.md U8", what) as it:
        ordered = Ordered(proven, _places(proven, AskedPart.parse(bundle.asked)))
        shown = sum(place.kind is not None for place in ordered.places)
        it.got = f"{len(ordered.places)} requests, {shown} of them shown, the others by their digest"
    if ordered is not None:
        ledger.fact("heights", f"{proven.first.height} to {proven.head.height}")
        ledger.fact("requests", len(ordered.places))
        ledger.fact("certified", f"{ordered.certified_at:%Y-%m-%d %H:%M:%S}Z")
    return ordered


def _places(proven: VerifiedSlice, asked: AskedPart) -> tuple[Place, ...]:
    if len(asked.blocks) != len(proven.headers):
        raise AuditRefused("asked", expected=f"{len(proven.headers)} blocks", got=len(asked.blocks))
    places: list[Place] = []
    for header, link, block in zip(proven.headers, proven.links, asked.blocks, strict=True):
        if len(block) != header.count:
            raise AuditRefused("asked", expected=f"{header.count} requests at height {header.height}", got=len(block))
        found = [_place(header, link, index, each) for index, each in enumerate(block)]
        if merkle.root([place.digest for place in found]) != header.request_root:
            raise AuditRefused(
                "asked",
                expected=f"the requests of height {header.height}",
                got=f"requests of root {merkle.root([place.digest for place in found]).hex()}",
            )
        places += found
    return tuple(places)


def _place(header: Header, link: bytes, index: int, asked: Request | bytes) -> Place:
    if isinstance(asked, bytes):
        return Place(header, link, index, asked, None)
    return Place(header, link, index, asked.digest(), asked.kind)


def _principal(raw: bytes) -> str:
    return to_text(raw)
