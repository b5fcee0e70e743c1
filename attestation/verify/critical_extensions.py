"""Which extensions of a certificate may be critical (docs/spec/evidence.md E187).

X.509 has a verifier refuse a critical extension that it does not process. This is for the certificates of authorities
and for leaves of elliptic-curve keys. A VEK has a rule of its own, because AMD's extensions in it are read
(`attestation.evidence.vek`).
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from attestation.errors import ChainRefused

PROCESSED: Final = frozenset({ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE})


def refuse_unprocessed(code: str, certificate: x509.Certificate, name: str) -> None:
    """For a certificate whose extensions can be read. Raises `ChainRefused`."""
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in PROCESSED:
            raise ChainRefused(
                code,
                expected=f"{name} with no critical extension but basicConstraints and keyUsage",
                got=extension.oid.dotted_string,
            )
