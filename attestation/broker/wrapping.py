"""Secrets at rest: wrapped under a key-encryption key that is not in the store.

    file:PATH                 32 bytes in a file only its owner can read
    env:NAME                  32 bytes, hexadecimal, in a variable of the environment
    pkcs11:MODULE?token=LABEL&key=LABEL&pin-env=NAME      an AES key that never leaves its token

AES-256-GCM with a fresh nonce; what a secret is (its name and version) is authenticated, so two cannot be exchanged
(docs/spec/key-release.md R22). The broker unwraps a key after its grant is in the log, never before.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from attestation.broker.errors import WrapRefused
from foundation.refusal import listed
from foundation.secrecy import Secret, owned

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BITS: Final = 128
SOFTWARE, TOKEN = b"\x01", b"\x02"


class Wrapping(Protocol):
    """A key-encryption key, wherever it is."""

    def wrap(self, secret: Secret, name: bytes) -> bytes: ...
    def unwrap(self, wrapped: bytes, name: bytes) -> Secret:
        """Raises `WrapRefused` unless `wrapped` is what `wrap` made under this key and name."""


class SoftwareWrapping:
    """A key in this process's memory."""

    def __init__(self, key: Secret) -> None:
        if len(key.lend()) != KEY_BYTES:
            raise WrapRefused("wrapping.key", expected=f"{KEY_BYTES} bytes", got=f"{len(key.lend())} bytes")
        self._cipher: Final = AESGCM(key.lend())

    def wrap(self, secret: Secret, name: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return SOFTWARE + nonce + self._cipher.encrypt(nonce, secret.lend(), name)

    def unwrap(self, wrapped: bytes, name: bytes) -> Secret:
        nonce, text = _parts(wrapped, SOFTWARE)
        try:
            return Secret.filled(
                len(text) - TAG_BITS // 8, lambda into: self._cipher.decrypt_into(nonce, text, name, into)
            )
        except InvalidTag:
            raise _refused() from None


class TokenWrapping:
    """An AES key on a PKCS#11 token: the token does the wrapping, the key is never seen here."""

    def __init__(self, session: Any, key: Any) -> None:
        self._session, self._key = session, key

    @classmethod
    def open(cls, module: str, token_label: str, key_label: str, pin: Secret) -> TokenWrapping:
        import pkcs11  # noqa: PLC0415  # only who has a token needs the library

        try:
            token = pkcs11.lib(module).get_token(token_label=token_label)
            session = token.open(user_pin=pin.reveal().decode())
            key = session.get_key(object_class=pkcs11.ObjectClass.SECRET_KEY, label=key_label)
        except pkcs11.PKCS11Error as reason:
            raise WrapRefused("wrapping.token", expected="a token with this key", got=type(reason).__name__) from None
        return cls(session, key)

    def wrap(self, secret: Secret, name: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return TOKEN + nonce + bytes(self._key.encrypt(secret.reveal(), **self._mechanism(nonce, name)))

    def unwrap(self, wrapped: bytes, name: bytes) -> Secret:
        import pkcs11  # noqa: PLC0415

        nonce, text = _parts(wrapped, TOKEN)
        try:
            return owned(bytes(self._key.decrypt(text, **self._mechanism(nonce, name))))
        except pkcs11.PKCS11Error:
            raise _refused() from None

    def close(self) -> None:
        self._session.close()

    @staticmethod
    def _mechanism(nonce: bytes, name: bytes) -> dict[str, Any]:
        import pkcs11  # noqa: PLC0415

        return {
            "mechanism": pkcs11.Mechanism.AES_GCM,
            "mechanism_param": pkcs11.GCMParams(nonce, aad=name, tag_bits=TAG_BITS),
        }


def open_wrapping(where: str, environment: Mapping[str, str]) -> Wrapping:
    """From a setting as above. Raises `WrapRefused`; the message never holds what the key is."""
    scheme, _, rest = where.partition(":")
    match scheme:
        case "file":
            return SoftwareWrapping(_from_file(Path(rest)))
        case "env":
            return SoftwareWrapping(_from_environment(rest, environment))
        case "pkcs11":
            module, _, query = rest.partition("?")
            options = {name: values[0] for name, values in parse_qs(query).items()}
            if options.keys() != {"token", "key", "pin-env"} or options["pin-env"] not in environment:
                raise WrapRefused(
                    "wrapping.setting",
                    expected="token, key and pin-env, set",
                    got=f"{listed(options)}"
                    if options.keys() != {"token", "key", "pin-env"}
                    else "a pin-env that is not set",
                )
            pin = Secret(environment[options["pin-env"]].encode())
            return TokenWrapping.open(module, options["token"], options["key"], pin)
        case _:
            raise WrapRefused("wrapping.setting", expected="file:, env: or pkcs11:", got=repr(scheme[:20]))


def _from_file(path: Path) -> Secret:
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise WrapRefused("wrapping.file", expected="a file only its owner can read", got=oct(mode & 0o777))
        return owned(path.read_bytes())
    except OSError as error:
        raise WrapRefused(
            "wrapping.file", expected="a readable key file", got=f"{path}: {(error.strerror or 'no such file').lower()}"
        ) from None


def _from_environment(name: str, environment: Mapping[str, str]) -> Secret:
    try:
        return owned(bytes.fromhex(environment[name]))
    except (KeyError, ValueError):
        raise WrapRefused(
            "wrapping.environment",
            expected="hexadecimal in this variable",
            got="a variable that is not set" if name not in environment else "a value that is not hexadecimal",
        ) from None


def _parts(wrapped: bytes, how: bytes) -> tuple[bytes, bytes]:
    if wrapped[:1] != how or len(wrapped) < 1 + NONCE_BYTES + TAG_BITS // 8:
        raise _refused()
    return wrapped[1 : 1 + NONCE_BYTES], wrapped[1 + NONCE_BYTES :]


def _refused() -> WrapRefused:
    return WrapRefused(
        "wrapping.not-ours", expected="wrapped under this key, for this name", got="bytes that do not open"
    )
