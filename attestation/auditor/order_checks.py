"""The first links judged: the file, the measured configuration, what a subnet ordered (audit.md U1 to U11)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from attestation.auditor.audit_bundle import AskedPart, AuditBundle, Part
from attestation.auditor.errors import AuditRefused
from attestation.auditor.measured import Measured
from attestation.auditor.rows import Held, NothingToCheck
from attestation.auditor.terms import AuditTerms
from attestation.consensus.blocks import Header, Kind, Link, Request, RequestDigest
from attestation.consensus.principal import to_text
from attestation.consensus.slices import SliceProof, VerifiedSlice, verify_slice
from foundation import merkle


@dataclass(frozen=True, slots=True)
class OrderedPlace:
    """One request's place in the proven order. `kind` is None where the bundle withholds the request."""

    header: Header
    link: Link
    index: int
    digest: RequestDigest
    kind: Kind | None

    @property
    def id(self) -> int:
        return self.header.first_id + self.index


@dataclass(frozen=True, slots=True)
class Ordered:
    """What the subnet ordered, and when it said so."""

    slice: VerifiedSlice
    places: tuple[OrderedPlace, ...]

    @property
    def certified_at(self) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.slice.certified_time_ns // 1000)


def whole(bundle: AuditBundle, part: Part, cell: int | None = None) -> Held[bytes]:
    """U3: a part that does not fit its digest is damaged, and nothing else about it is looked at."""
    if (part, cell) in bundle.damaged:
        raise AuditRefused("damaged", expected="the part its digest names", got="a part that does not fit its digest")
    return Held(bundle.raw(part, cell))


def bundle_form(raw: bytes) -> Held[AuditBundle]:
    bundle = AuditBundle.parse(raw)
    return Held(bundle, f"{len(raw)} bytes, {len(bundle.cells)} cells")


def configuration(raw: bytes) -> Held[Measured]:
    measured = Measured.parse(raw)
    return Held(measured, measured.digest.hex())


def subnet(terms: AuditTerms, measured: Measured) -> Held[None]:
    if measured.root_key != terms.root_key:
        raise AuditRefused("root-key", expected=terms.root_key.hex()[:32], got=measured.root_key.hex()[:32])
    return Held(None, f"root key {measured.root_key.hex()[:16]}…")


def gateway(terms: AuditTerms, measured: Measured) -> Held[None] | NothingToCheck[None]:
    if terms.gateway is None:
        return NothingToCheck(f"no gateway was named; this is {to_text(measured.gateway)}")
    if measured.gateway != terms.gateway:
        raise AuditRefused("gateway", expected=to_text(terms.gateway), got=to_text(measured.gateway))
    return Held(None, to_text(measured.gateway))


def certificate(terms: AuditTerms, measured: Measured, order: bytes) -> Held[VerifiedSlice]:
    proven = verify_slice(SliceProof.parse(order), root_key=terms.root_key, canister=measured.gateway)
    return Held(proven, f"heights {proven.first.height} to {proven.head.height}")


def requests(proven: VerifiedSlice, asked: bytes) -> Held[Ordered]:
    ordered = Ordered(proven, _places(proven, AskedPart.parse(asked)))
    shown = sum(place.kind is not None for place in ordered.places)
    return Held(ordered, f"{len(ordered.places)} requests, {shown} of them shown, the others by their digest")


def _places(proven: VerifiedSlice, asked: AskedPart) -> tuple[OrderedPlace, ...]:
    if len(asked.blocks) != len(proven.headers):
        raise AuditRefused("asked", expected=f"{len(proven.headers)} blocks", got=len(asked.blocks))
    places: list[OrderedPlace] = []
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


def _place(header: Header, link: Link, index: int, asked: Request | RequestDigest) -> OrderedPlace:
    if isinstance(asked, bytes):
        return OrderedPlace(header, link, index, asked, None)
    return OrderedPlace(header, link, index, asked.digest(), asked.kind)
