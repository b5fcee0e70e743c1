"""Sealing to a cell's key: flattened JWE, ECDH-ES+A256KW on P-256 or P-521, A256GCM (RFC 7516, 7518).

    key = RecipientKey.parse({"kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": ..., "y": ...})
    sealed = seal(Secret(b"..."), key, {"anchorhold": "..."}, randomness)
    open_sealed(sealed, private_key).reveal()

The protected header is the additional authenticated data, so whatever is put there is as authentic as the text.
Sealing proves nothing about who sealed: anyone can, to a public key. `grant` adds the broker's signature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from attestation.rcar.encodings import from_base64url, json_object, to_base64url, to_json
from attestation.rcar.errors import MessageRefused, SealRefused
from foundation.refusal import listed, outline, shown
from foundation.secrecy import Secret, owned

ALGORITHM: Final = "ECDH-ES+A256KW"
ENCRYPTION: Final = "A256GCM"
CURVES: Final[Mapping[str, ec.EllipticCurve]] = {"P-256": ec.SECP256R1(), "P-521": ec.SECP521R1()}
COORDINATE_BYTES: Final = {"P-256": 32, "P-521": 66}
KEY_BYTES, NONCE_BYTES, TAG_BYTES, WRAPPED_BYTES = 32, 12, 16, 40
CIPHERTEXT_BYTES_MAX: Final = 64 * 1024
HEADER_BYTES_MAX: Final = 8 * 1024
SEALED_BYTES_MAX: Final = 128 * 1024

Randomness = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class RecipientKey:
    """A public key to seal to, as a JWK of exactly the five members the protocol names."""

    curve: str
    x: bytes
    y: bytes

    @classmethod
    def parse(cls, jwk: object) -> Self:
        """Raises `MessageRefused` for anything but a point on P-256 or P-521 with our algorithm."""
        if not isinstance(jwk, dict) or jwk.keys() != {"kty", "crv", "alg", "x", "y"}:
            raise MessageRefused("key.members", expected="kty, crv, alg, x and y", got=outline(jwk))
        if jwk["kty"] != "EC" or jwk["alg"] != ALGORITHM or jwk["crv"] not in ("P-256", "P-521"):
            raise MessageRefused(
                "key.kind",
                expected=f"an EC key on P-256 or P-521 for {ALGORITHM}",
                got=f"kty {shown(jwk['kty'])}, alg {shown(jwk['alg'])}, crv {shown(jwk['crv'])}",
            )
        return cls.of_point(jwk["crv"], jwk["x"], jwk["y"])

    @classmethod
    def of_point(cls, curve: str, x: object, y: object) -> Self:
        size = COORDINATE_BYTES[curve]
        key = cls(curve, from_base64url("key", x, bytes_max=size), from_base64url("key", y, bytes_max=size))
        if len(key.x) != size or len(key.y) != size:
            raise MessageRefused(
                "key.length", expected=f"coordinates of {size} bytes", got=f"{len(key.x)} and {len(key.y)} bytes"
            )
        key.public()
        return key

    @classmethod
    def of(cls, public: ec.EllipticCurvePublicKey) -> Self:
        curve = next(name for name, each in CURVES.items() if each.name == public.curve.name)
        numbers, size = public.public_numbers(), COORDINATE_BYTES[curve]
        return cls(curve, numbers.x.to_bytes(size, "big"), numbers.y.to_bytes(size, "big"))

    def public(self) -> ec.EllipticCurvePublicKey:
        numbers = ec.EllipticCurvePublicNumbers(
            int.from_bytes(self.x, "big"), int.from_bytes(self.y, "big"), CURVES[self.curve]
        )
        try:
            return numbers.public_key()
        except ValueError:
            raise MessageRefused(
                "key.point", expected="a point of the curve", got=f"x {self.x.hex()}, y {self.y.hex()}"
            ) from None

    def point(self) -> dict[str, str]:
        return {"crv": self.curve, "kty": "EC", "x": to_base64url(self.x), "y": to_base64url(self.y)}

    def jwk(self) -> dict[str, str]:
        return {"alg": ALGORITHM, **self.point()}

    @property
    def thumbprint(self) -> bytes:
        """RFC 7638: the name of this key, 32 bytes."""
        return hashlib.sha256(to_json(self.point())).digest()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A flattened JWE, as its base64url members."""

    protected: str
    encrypted_key: str
    iv: str
    ciphertext: str
    tag: str
    unprotected: Mapping[str, str]

    @property
    def parts(self) -> tuple[str, str, str, str, str]:
        return self.protected, self.encrypted_key, self.iv, self.ciphertext, self.tag

    def encode(self) -> bytes:
        members: dict[str, object] = {
            "protected": self.protected,
            "encrypted_key": self.encrypted_key,
            "iv": self.iv,
            "ciphertext": self.ciphertext,
            "tag": self.tag,
        }
        if self.unprotected:
            members["header"] = dict(self.unprotected)
        return to_json(members)

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `MessageRefused`, nothing else."""
        value = json_object("sealed", raw, SEALED_BYTES_MAX)
        header = value.pop("header", {})
        if value.keys() != {"protected", "encrypted_key", "iv", "ciphertext", "tag"}:
            raise MessageRefused("sealed.members", expected="the five members of a flattened JWE", got=outline(value))
        if not isinstance(header, dict) or not all(isinstance(part, str) for part in header.values()):
            raise MessageRefused("sealed.header", expected="texts", got=outline(header))
        texts = {name: part for name, part in value.items() if isinstance(part, str)}
        if len(texts) != len(value):
            raise MessageRefused(
                "sealed.members", expected="texts", got=f"other types for {listed(value.keys() - texts.keys())}"
            )
        return cls(**texts, unprotected=header)

    def protected_members(self) -> dict[str, object]:
        return json_object(
            "sealed", from_base64url("sealed.protected", self.protected, bytes_max=HEADER_BYTES_MAX), HEADER_BYTES_MAX
        )


def seal(secret: Secret, key: RecipientKey, header: Mapping[str, str], randomness: Randomness) -> Sealed:
    """`secret` for whoever holds the private half of `key`; `header` is authenticated with it."""
    ephemeral = _ephemeral(key.curve, randomness)
    mine = RecipientKey.of(ephemeral.public_key())
    protected = to_base64url(to_json({"alg": ALGORITHM, "enc": ENCRYPTION, "epk": mine.point(), **header}))
    content_key, iv = Secret(randomness(KEY_BYTES)), randomness(NONCE_BYTES)
    wrapped = aes_key_wrap(_agreed(ephemeral, key.public()).lend(), content_key.lend())
    text = AESGCM(content_key.lend()).encrypt(iv, secret.lend(), protected.encode("ascii"))
    return Sealed(
        protected,
        to_base64url(wrapped),
        to_base64url(iv),
        to_base64url(text[:-TAG_BYTES]),
        to_base64url(text[-TAG_BYTES:]),
        {},
    )


def open_sealed(sealed: Sealed, private: ec.EllipticCurvePrivateKey) -> Secret:
    """What was sealed to the public half of `private`. Raises `MessageRefused` or `SealRefused`."""
    header = sealed.protected_members()
    if header.get("alg") != ALGORITHM or header.get("enc") != ENCRYPTION:
        raise SealRefused(
            "sealed.algorithm",
            expected=f"{ALGORITHM}, {ENCRYPTION}",
            got=f"{shown(header.get('alg'))}, {shown(header.get('enc'))}",
        )
    epk = header.get("epk")
    curve = RecipientKey.of(private.public_key()).curve
    if not isinstance(epk, dict) or epk.get("crv") != curve or epk.get("kty") != "EC":
        raise SealRefused(
            "sealed.epk",
            expected=f"a point on {curve}",
            got=outline(epk)
            if not isinstance(epk, dict)
            else f"kty {shown(epk.get('kty'))}, crv {shown(epk.get('crv'))}",
        )
    sender = RecipientKey.of_point(curve, epk.get("x"), epk.get("y"))
    wrapped = _exactly("encrypted_key", sealed.encrypted_key, WRAPPED_BYTES)
    iv = _exactly("iv", sealed.iv, NONCE_BYTES)
    tag = _exactly("tag", sealed.tag, TAG_BYTES)
    text = from_base64url("sealed.ciphertext", sealed.ciphertext, bytes_max=CIPHERTEXT_BYTES_MAX)
    try:
        content_key = owned(aes_key_unwrap(_agreed(private, sender.public()).lend(), wrapped))
        cipher, header_bytes = AESGCM(content_key.lend()), sealed.protected.encode("ascii")
        return Secret.filled(len(text), lambda into: cipher.decrypt_into(iv, text + tag, header_bytes, into))
    except (InvalidUnwrap, InvalidTag, ValueError):
        raise SealRefused(
            "sealed.not-ours",
            expected="sealed to this key, unchanged",
            got=f"{len(text)} bytes that do not open under this key",
        ) from None


def _ephemeral(curve: str, randomness: Randomness) -> ec.EllipticCurvePrivateKey:
    bits = int.from_bytes(randomness(COORDINATE_BYTES[curve] + 16), "big")
    return ec.derive_private_key(bits % (CURVES[curve].group_order - 1) + 1, CURVES[curve])


def _agreed(private: ec.EllipticCurvePrivateKey, public: ec.EllipticCurvePublicKey) -> Secret:
    """RFC 7518 4.6.2: the key that wraps the content key. Both parties' info is empty."""
    algorithm = ALGORITHM.encode("ascii")
    info = len(algorithm).to_bytes(4, "big") + algorithm + bytes(8) + (8 * KEY_BYTES).to_bytes(4, "big")
    shared = owned(private.exchange(ec.ECDH(), public))
    derivation = ConcatKDFHash(hashes.SHA256(), KEY_BYTES, info)
    return Secret.filled(KEY_BYTES, lambda into: derivation.derive_into(shared.lend(), into))


def _exactly(what: str, text: str, size: int) -> bytes:
    raw = from_base64url(f"sealed.{what}", text, bytes_max=size)
    if len(raw) != size:
        raise MessageRefused(f"sealed.{what}", expected=f"{size} bytes", got=len(raw))
    return raw
