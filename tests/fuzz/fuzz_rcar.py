"""Invariant: whatever the bytes, every message of the release handshake parses or is refused with its own family; what
parses encodes to something that parses to the same; evidence in it becomes a bundle or a quoted report, or is refused;
and a cell that hears the bytes at any step never holds a key.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json

from cryptography.hazmat.primitives.asymmetric import ec

from appliance.key_release import (
    Attester,
    Begin,
    Brought,
    Carry,
    Releaser,
    ReleaseRefused,
    Wanted,
    decode_ask,
    decode_say,
    encode_ask,
    encode_say,
)
from attestation.errors import EvidenceRefused
from attestation.evidence.kinds import TeeKind
from attestation.rcar.errors import GrantRefused, MessageRefused, RcarRefused
from attestation.rcar.evidence import attestation_of, bound_members, bundle_of, is_ours, plain_quoted
from attestation.rcar.grant import GrantContext, GrantHeights, GrantPurpose
from attestation.rcar.jwe import RecipientKey, Sealed, open_sealed
from attestation.rcar.messages import Attestation, AuthRequest, Challenge, nonce_text, parse_token
from attestation.tee.produce import release
from measurements.launch.measurement import SnpLaunchDigest
from tests.little_tee import CONFIG, KEYSET, NONCE, snp_tee
from tests.rcar_client import snp_json

_PRIVATE = ec.derive_private_key(0x5EED, ec.SECP256R1())
_KEY = RecipientKey.of(_PRIVATE.public_key())
_WANTED = Wanted(b"\x07" * 31 + b"\x01", "a/model-key/b", GrantPurpose.MODEL, bytes(32))


@functools.cache
def _attestations() -> tuple[bytes, bytes]:
    tee = snp_tee()
    bundle = release(
        tee, nonce_text(NONCE), _KEY.jwk(), KEYSET, measured_config=CONFIG, other_evidence=bound_members(KEYSET)
    )
    plain = snp_json(bundle.report, {"VCEK": tee.platform.vcek.der})
    return (attestation_of(bundle).encode(), Attestation(nonce_text(NONCE), _KEY, _KEY.jwk(), plain, "").encode())


SEEDS: list[bytes] = [
    AuthRequest(TeeKind.SNP, bytes(32)).encode(),
    AuthRequest(TeeKind.TDX).encode(),
    Challenge(nonce_text(NONCE), b"s").encode(),
    *_attestations(),
    b'{"token":"a.b.c"}',
    encode_ask(Begin()),
    encode_ask(Brought(1, 200, b"{}")),
    encode_say(Carry(1, "POST", "auth", b"{}")),
    b"",
    b"{}",
    Sealed("e30", "AA", "AA", "AA", "AA", {"anchorhold-signature": "AA"}).encode(),
    GrantContext(
        GrantPurpose.MODEL,
        "a/model-key/b",
        1,
        "r",
        bytes(32),
        SnpLaunchDigest(bytes(48)),
        bytes(32),
        bytes(32),
        1,
        bytes(32),
        bytes(32),
        GrantHeights(1, 2, 3),
    ).encode(),
    json.dumps(
        {
            "runtime-data": {"nonce": "", "tee-pubkey": _KEY.jwk()},
            "tee-evidence": {"primary_evidence": {"quote": base64.b64encode(b"q").decode()}, "additional_evidence": ""},
        }
    ).encode(),
]


def one_input(data: bytes) -> None:
    for kind in (AuthRequest, Challenge):
        try:
            parsed = kind.parse(data)
        except MessageRefused:
            continue
        assert kind.parse(parsed.encode()) == parsed
    _attestation(data)
    _sealed(data)
    _window(data)
    with contextlib.suppress(MessageRefused):
        parse_token(data)
    _cell(data)


def _attestation(data: bytes) -> None:
    try:
        attestation = Attestation.parse(data)
    except MessageRefused:
        return
    assert Attestation.parse(attestation.encode()) == attestation
    for kind in (TeeKind.SNP, TeeKind.SIMULATED_TDX):
        try:
            if is_ours(attestation):
                bundle = bundle_of(attestation, kind)
                assert bundle_of(attestation_of(bundle), kind) == bundle
            else:
                assert plain_quoted(attestation, kind).kind is kind
        except (RcarRefused, EvidenceRefused):
            continue


def _sealed(data: bytes) -> None:
    try:
        sealed = Sealed.parse(data)
        assert Sealed.parse(sealed.encode()) == sealed
        open_sealed(sealed, _PRIVATE)
    except RcarRefused:
        pass
    with contextlib.suppress(GrantRefused):
        assert GrantContext.parse(data).encode() == data


def _window(data: bytes) -> None:
    try:
        ask = decode_ask(data)
        assert encode_ask(ask) == data
    except ReleaseRefused:
        pass
    try:
        say = decode_say(data)
        assert encode_say(say) == data
    except ReleaseRefused:
        pass


def _cell(data: bytes) -> None:
    """The broker's key is no key of anybody's: nothing that is brought can be a grant."""
    cell = Releaser(_WANTED, _attester(), lambda: _PRIVATE)
    said = cell.respond(Begin())
    assert isinstance(said, Carry)
    cell.respond(Brought(said.number, 200, data))
    assert cell.held is None
    assert cell.standing.failure is not None


@functools.cache
def _attester() -> Attester:
    return Attester(snp_tee(), KEYSET, CONFIG)
