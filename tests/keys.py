"""Keys for tests, one per name for the whole run: RSA keys of 4096 bits are slow to make."""

from __future__ import annotations

import functools

from cryptography.hazmat.primitives.asymmetric import ec, rsa


@functools.cache
def rsa_key(name: str, bits: int = 4096) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@functools.cache
def p384_key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())
