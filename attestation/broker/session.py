"""The release session: request, challenge, attestation, appraisal, grant. It decides, and touches nothing.

    session = open_session(AuthRequest.parse(raw), session_id=..., nonce=..., now_ns=...)
    judged = judge(session, Attestation.parse(raw), terms, now_ns)             or Denied
    check_grant(judged.admission, offer, purpose, terms)                       or Denied
    context = grant(judged.admission, offer, decision=..., position=...)

No socket, no clock, no randomness, no store: time, nonces and what the store knows are arguments. Who calls this
keeps the promises it cannot: that a session is judged once, and that a decision is in the log before anything of it
leaves (docs/spec/key-release.md R6 to R17, R20).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Final, Self, TypeVar

from attestation.broker.errors import Denied
from attestation.broker.leases import lease_of
from attestation.decision_log.words import ReleaseState, RevocationKind
from attestation.errors import EvidenceRefused
from attestation.evidence.auxblob import TableEntry
from attestation.evidence.evidence_bundle import EvidenceBundle
from attestation.evidence.keyset import Keyset, KeysetDigest
from attestation.evidence.kinds import TeeFormat, TeeKind
from attestation.evidence.quoted import Quoted
from attestation.policy.appraise import appraise
from attestation.policy.bundle_appraisal import appraise_bundle
from attestation.policy.claims import Appraisal, Unchecked
from attestation.policy.document import Policy
from attestation.policy.snp import reaches_minimum, read_minimum_tcb
from attestation.rcar.errors import MessageRefused
from attestation.rcar.evidence import bundle_of, is_ours, plain_quoted
from attestation.rcar.grant import NO_ADOPTION, EntryDigest, GrantContext, GrantHeights, GrantPurpose
from attestation.rcar.jwe import RecipientKey
from attestation.rcar.messages import Attestation, AuthRequest, nonce_text
from attestation.report_data import release_report_data
from attestation.verify.evidence_bundle import verify_bundle, verify_quoted
from attestation.verify.verified import VerifiedSnp
from attestation.verify.verified_tdx import VerifiedTdx
from foundation import cbor
from foundation.refusal import shown
from foundation.sized import digest32
from measurements.digests import ConfigurationDigest, DecisionDigest, ModelRoot
from measurements.launch.measurement import LaunchMeasurement, read_measurement
from measurements.reference import ReferenceValues
from measurements.release.heights import LEASE, Heights
from measurements.release.manifest import MinimumTcb

SESSION_SECONDS: Final = 300  # from challenge to attestation
TOKEN_SECONDS: Final = 300  # from attestation to the last resource
GRANTS_PER_SESSION_MAX: Final = 8
ADMISSION_BYTES_MAX: Final = 4096
_LIMITS: Final = cbor.Limits(bytes_max=ADMISSION_BYTES_MAX, depth_max=2, items_max=32)
_NS: Final = 1_000_000_000

# R18: what a policy must look at before a key may hang on it.
INDISPENSABLE: Final[Mapping[str, tuple[str, ...]]] = {
    "snp": ("measurement", "report_data", "debug", "minimum_tcb", "migration_agent"),
    "tdx": ("mr_td", "rtmr1", "rtmr2", "report_data", "debug", "tcb_status"),
    "gpu": ("nonce",),
}


class Phase(Enum):
    """Where a session stands. It only moves down this list."""

    CHALLENGED = "challenged"
    JUDGING = "judging"
    ADMITTED = "admitted"
    DENIED = "denied"


EVERY_BLOCK: Final = Heights(1, None)


@dataclass(frozen=True, slots=True)
class Release:
    """An image that may or may not have keys."""

    name: str
    measurement: LaunchMeasurement
    model_root: ModelRoot
    measured_config: ConfigurationDigest
    state: ReleaseState
    adoption: DecisionDigest = NO_ADOPTION  # the decision behind it; zeros: the administrator's word
    minimum_tcb: MinimumTcb | None = None
    heights: Heights = EVERY_BLOCK
    lease: int = LEASE


@dataclass(frozen=True, slots=True)
class Session:
    id: str
    tee: TeeKind
    nonce: bytes
    commitment: bytes | None
    expires_ns: int
    phase: Phase


@dataclass(frozen=True, slots=True)
class Endorsements:
    """Certificates, lists and collateral the broker has itself, for clients that bring none."""

    certificates: Mapping[TableEntry, bytes] = field(default_factory=dict)
    crls: tuple[bytes, ...] = ()
    collateral: bytes = b""


@dataclass(frozen=True, slots=True)
class GrantTerms:
    """All that a decision rests on besides the evidence, as it stood when the decision was made."""

    policy: Policy
    references: ReferenceValues
    releases: Mapping[LaunchMeasurement, Release]
    revoked: frozenset[tuple[RevocationKind, bytes]] = frozenset()
    endorsements: Endorsements = Endorsements()
    simulated_root: bytes | None = None
    height: int = 0  # the gateway's, as far as it was shown
    least_versions: Mapping[str, int] = field(default_factory=dict)  # by resource, as decided
    granted: Mapping[tuple[str, DecisionDigest], Heights] = field(
        default_factory=dict
    )  # by release and adoption: all blocks

    def refuse_unwanted(self, release: Release | None, named: str) -> Release:
        """R10; governance.md V18: approved, or superseded and at most one lease behind its last block."""
        state = None if release is None else release.state
        if release is not None and (
            state is ReleaseState.APPROVED
            or (state is ReleaseState.SUPERSEDED and self.height <= release.heights.end + release.lease)
        ):
            return release
        code = state.value if state in (ReleaseState.SUPERSEDED, ReleaseState.WITHDRAWN) and state else "unapproved"
        raise Denied(f"release.{code}", expected="an approved release", got=named)

    def refuse_revoked_chip(self, chip: bytes | None) -> None:
        """R11: a machine that nobody can name may be a revoked one, as soon as there are any."""
        if chip is None and any(kind is RevocationKind.CHIP for kind, _ in self.revoked):
            raise Denied("revoked.chip.unknown", expected="a chip that is named, since some are revoked", got="masked")
        self.refuse_revoked(RevocationKind.CHIP, chip)

    def refuse_revoked(self, kind: RevocationKind, value: bytes | None) -> None:
        if value is not None and (kind, value) in self.revoked:
            raise Denied(f"revoked.{kind.value}", expected="not revoked", got=value.hex()[:32])


@dataclass(frozen=True, slots=True)
class OfferedSecret:
    """A secret as the store names it, without its bytes."""

    resource: str
    version: int
    purpose: GrantPurpose
    model_root: bytes


@dataclass(frozen=True, slots=True)
class Admission:
    """What an accepted attestation proved; all that a grant needs. Kept with the session."""

    release: str
    measurement: LaunchMeasurement
    model_root: ModelRoot
    chip: bytes | None
    keyset: KeysetDigest | None  # None: a plain client, which binds no keyset
    key: RecipientKey
    nonce: bytes
    policy_id: str
    adoption: DecisionDigest = NO_ADOPTION

    def encode(self) -> bytes:
        return cbor.encode(
            [
                2,
                self.release,
                self.measurement.encode(),
                self.model_root,
                self.chip,
                self.keyset,
                self.key.curve,
                self.key.x,
                self.key.y,
                self.nonce,
                self.policy_id,
                self.adoption,
            ]
        )

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        match cbor.decode(raw, _LIMITS):
            case [
                2,
                str(release),
                bytes(measurement),
                bytes(root),
                bytes() | None as chip,
                bytes() | None as keyset,
                str(curve),
                bytes(x),
                bytes(y),
                bytes(nonce),
                str(policy),
                bytes(adoption),
            ]:
                key, launch = RecipientKey(curve, x, y), read_measurement(measurement)
                return cls(
                    release=release,
                    measurement=launch,
                    model_root=ModelRoot(digest32(root)),
                    chip=chip,
                    keyset=None if keyset is None else KeysetDigest(digest32(keyset)),
                    key=key,
                    nonce=nonce,
                    policy_id=policy,
                    adoption=DecisionDigest(digest32(adoption)),
                )
            case _:
                raise ValueError("an admission that this version did not write")


@dataclass(frozen=True, slots=True)
class Judged:
    """An admission, and the appraisal behind it."""

    admission: Admission
    appraisal: Appraisal


def open_session(request: AuthRequest, *, session_id: str, nonce: bytes, now_ns: int) -> Session:
    """R6: a challenge is good once, until it expires, and for the session it was made for."""
    expires_ns = now_ns + SESSION_SECONDS * _NS
    return Session(session_id, request.tee, nonce, request.commitment, expires_ns, Phase.CHALLENGED)


def judge(session: Session, attestation: Attestation, terms: GrantTerms, now_ns: int) -> Judged:
    """Whether this attestation answers this challenge, and is wanted. Raises `Denied`, nothing else."""
    if now_ns >= session.expires_ns:
        raise Denied(
            "session.expired",
            expected="an answer in time",
            got=f"one {(now_ns - session.expires_ns) // 1_000_000} ms after its end",
        )
    if not hmac.compare_digest(attestation.nonce.encode(), nonce_text(session.nonce).encode()):
        raise Denied("session.nonce", expected="the nonce of this session", got=shown(attestation.nonce))
    thumbprint = attestation.key.thumbprint
    if session.commitment is not None and not hmac.compare_digest(session.commitment, thumbprint):
        # R6: whoever opened the session said which key would attest: a stolen cookie is of no use to another.
        raise Denied("session.key", expected="the key this session was opened for", got=f"key {thumbprint.hex()}")
    terms.refuse_revoked(RevocationKind.KEY, thumbprint)
    at = datetime.fromtimestamp(now_ns / _NS, UTC)
    try:
        evidence, appraisal, keyset, config = _verified(session, attestation, terms, at)
    except (EvidenceRefused, MessageRefused) as refusal:
        raise Denied(refusal.code, expected=refusal.expected, got=refusal.got) from refusal
    if keyset is not None:
        terms.refuse_revoked(RevocationKind.KEY, keyset.digest)
    terms.refuse_revoked_chip(evidence.chip)  # before the policy: a revoked chip is called revoked
    terms.refuse_revoked(RevocationKind.MEASUREMENT, evidence.launch.encode())
    if not appraisal.accepted:
        claim = appraisal.unmet[0] if appraisal.unmet else None
        raise Denied(
            claim.code if claim else "policy.empty",
            expected=claim.expected if claim else "claims",
            got=claim.got if claim else "none",
        )
    release = _release(terms, evidence.launch, config)
    _refuse_low_tcb(release, evidence)
    admission = Admission(
        release.name,
        evidence.launch,
        release.model_root,
        evidence.chip,
        keyset.digest if keyset else None,
        attestation.key,
        session.nonce,
        appraisal.policy_id,
        release.adoption,
    )
    return Judged(admission, appraisal)


def grant(
    admission: Admission, offer: OfferedSecret, heights: GrantHeights | None, *, decision: EntryDigest, position: int
) -> GrantContext:
    """The context under which `offer` goes to who was admitted, once the decision has its place in the log."""
    return GrantContext(
        offer.purpose,
        offer.resource,
        offer.version,
        admission.release,
        admission.model_root,
        admission.measurement,
        admission.adoption,
        decision,
        position,
        admission.nonce,
        admission.key.thumbprint,
        heights,
    )


def check_grant(
    admission: Admission, offer: OfferedSecret, purpose: GrantPurpose, terms: GrantTerms
) -> GrantHeights | None:
    """R11, R12: what may have changed since, and whether this secret is for such a cell. Raises `Denied`.

    The blocks it is granted for (R34); None for a plain client, which answers none.
    """
    release = terms.refuse_unwanted(terms.releases.get(admission.measurement), admission.release)
    if (release.name, release.adoption) != (admission.release, admission.adoption):
        raise Denied("release.unapproved", expected="the release it was admitted as", got=release.name)
    terms.refuse_revoked(RevocationKind.RELEASE, admission.release.encode())
    terms.refuse_revoked(RevocationKind.MEASUREMENT, admission.measurement.encode())
    terms.refuse_revoked_chip(admission.chip)
    terms.refuse_revoked(RevocationKind.KEY, admission.keyset)
    terms.refuse_revoked(RevocationKind.KEY, admission.key.thumbprint)
    if offer.version < (least := terms.least_versions.get(offer.resource, 0)):  # governance.md V20
        raise Denied("grant.version", expected=f"version {least} or later", got=offer.version)
    if offer.purpose is not purpose:
        raise Denied("grant.purpose", expected=offer.purpose.value, got=purpose.value)
    if offer.purpose is not GrantPurpose.PLAIN and admission.keyset is None:
        raise Denied("grant.keyset", expected="a quote that binds a keyset", got="none")
    if offer.model_root and offer.model_root != admission.model_root:
        raise Denied("grant.model-root", expected=offer.model_root.hex(), got=admission.model_root.hex())
    return None if offer.purpose is GrantPurpose.PLAIN else lease_of(release, terms.height, terms.granted)


def refuse_lax(policy: Policy) -> None:
    """R18: raises `Denied` for a policy no key may hang on: one without a TEE's section, or blind in one."""
    if policy.snp is None and policy.tdx is None:
        raise Denied("policy.section", expected="a section for SNP or TDX", got="none")
    for name, section in policy.sections.items():
        for required in INDISPENSABLE[name]:
            if isinstance(getattr(section, required), Unchecked):
                raise Denied(f"policy.{name}.{required}", expected="checked", got="unchecked")


_Verified = tuple[VerifiedSnp | VerifiedTdx, Appraisal, Keyset | None, ConfigurationDigest | None]


def _verified(session: Session, attestation: Attestation, terms: GrantTerms, at: datetime) -> _Verified:
    references = terms.references.joined(_known(terms))
    if not is_ours(attestation):
        quoted = _endorsed(plain_quoted(attestation, session.tee), terms.endorsements)
        return _plain(attestation, quoted, references, terms, at=at)
    bundle = _endorsed(bundle_of(attestation, session.tee), terms.endorsements)
    verified = verify_bundle(bundle, at=at, nonce=session.nonce, simulated_root=terms.simulated_root)
    appraisal = appraise_bundle(verified, references, terms.policy, nonce=session.nonce)
    return verified.evidence, appraisal, verified.keyset, verified.statement.measured_config


def _plain(
    attestation: Attestation, quoted: Quoted, references: ReferenceValues, terms: GrantTerms, *, at: datetime
) -> _Verified:
    expected = release_report_data(attestation.nonce, attestation.jwk, attestation.additional)
    evidence = verify_quoted(quoted, expected, at=at, simulated_root=terms.simulated_root)
    fresh = ReferenceValues.of({f"{evidence.format.section}.report_data": [expected]})
    return evidence, appraise(evidence, references.joined(fresh), terms.policy), None, None


def _known(terms: GrantTerms) -> ReferenceValues:
    """Every known release's measurement, in whatever state: an unapproved one is refused by name, not by number."""
    return ReferenceValues.of_launches(terms.releases)


_E = TypeVar("_E", EvidenceBundle, Quoted)


def _endorsed(evidence: _E, held: Endorsements) -> _E:
    """With what the broker holds where the client brought none; nothing of it is believed for where it came from."""
    if evidence.kind.format is TeeFormat.TDX:
        return replace(evidence, collateral=evidence.collateral or held.collateral)
    certificates = {**held.certificates, **evidence.certificates}
    return replace(evidence, certificates=certificates, crls=evidence.crls or held.crls)


def _release(terms: GrantTerms, measurement: LaunchMeasurement, config: ConfigurationDigest | None) -> Release:
    release = terms.releases.get(measurement)
    got = "an unknown measurement" if release is None else f"{release.name}, {release.state.value}"
    release = terms.refuse_unwanted(release, got)
    terms.refuse_revoked(RevocationKind.RELEASE, release.name.encode())
    if config is not None and config != release.measured_config:
        raise Denied("release.config", expected=release.measured_config.hex(), got=config.hex())
    return release


def _refuse_low_tcb(release: Release, evidence: VerifiedSnp | VerifiedTdx) -> None:
    """governance.md V21: what the release itself asks of a machine, besides the policy."""
    least = release.minimum_tcb
    if least is None:
        return
    match evidence:
        case VerifiedSnp():
            rows = {name: dict(levels) for name, levels in least.snp.items()}
            met = bool(rows) and reaches_minimum(read_minimum_tcb(rows), evidence)
        case VerifiedTdx():
            met = evidence.tcb.status.value in least.tdx
    if not met:
        raise Denied("release.tcb", expected=f"the minimum that {release.name} names", got=evidence.tcb_words)
