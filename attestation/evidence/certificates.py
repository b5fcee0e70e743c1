"""Certificates and revocation lists as they come: DER or PEM bytes in, parsed objects out.

What it does not establish: anything. A parsed certificate is a claim until `attestation.verify` has walked
from it to a pinned root.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning

from attestation.errors import FormatRefused

CERTIFICATE_BYTES_MAX: Final = 64 * 1024
CERTIFICATES_PER_FILE_MAX: Final = 16
KEPT_BYTES_MAX: Final = 16 * 1024
CRL_BYTES_MAX: Final = 16 * 1024 * 1024
PEM_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
PEM_CRL: Final = b"-----BEGIN X509 CRL-----"

# What the library raises, often only when asked, about a name, a key or an extension it can't make sense of.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    UserWarning,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    x509.InvalidVersion,
)


def read_certificates(raw: bytes) -> tuple[x509.Certificate, ...]:
    """One DER certificate, or a PEM file of one to sixteen. Raises `FormatRefused` alone."""
    if len(raw) > CERTIFICATE_BYTES_MAX * CERTIFICATES_PER_FILE_MAX:
        raise _malformed("certificate", "a DER or PEM certificate of bounded size", f"{len(raw)} bytes")
    return _kept(bytes(raw)) if len(raw) <= KEPT_BYTES_MAX else _parsed(bytes(raw))


def _parsed(raw: bytes) -> tuple[x509.Certificate, ...]:
    try:
        with _serial_zero_is_expected():
            if PEM_CERTIFICATE not in raw:
                found = [x509.load_der_x509_certificate(raw)]
            else:
                found = x509.load_pem_x509_certificates(raw)
            for certificate in found:
                certificate.subject, certificate.issuer  # noqa: B018  # decoded only when asked for: ask now
    except UNREADABLE as error:
        raise _malformed("certificate", "a DER or PEM certificate", _first_line(error)) from None
    if len(found) > CERTIFICATES_PER_FILE_MAX:
        raise _malformed("certificate", f"at most {CERTIFICATES_PER_FILE_MAX} certificates", len(found))
    return tuple(found)


# The same few intermediates come with every report. Reading is a pure function of the bytes and decides nothing,
# so its results may be kept: a verdict never is.
_kept = functools.lru_cache(maxsize=64)(_parsed)


def forget() -> None:
    """Drop what was kept: for measuring a first reading."""
    _kept.cache_clear()


def read_certificate(raw: bytes) -> x509.Certificate:
    """Exactly one certificate, DER or PEM."""
    found = read_certificates(raw)
    if len(found) != 1:
        raise _malformed("certificate", "one certificate", len(found))
    return found[0]


def read_crl(raw: bytes) -> x509.CertificateRevocationList:
    """One revocation list, DER or PEM. Raises `FormatRefused` alone."""
    if len(raw) > CRL_BYTES_MAX:
        raise _malformed("crl", f"<= {CRL_BYTES_MAX} bytes", f"{len(raw)} bytes")
    try:
        with _serial_zero_is_expected():
            crl = x509.load_pem_x509_crl(raw) if PEM_CRL in raw else x509.load_der_x509_crl(raw)
            crl.issuer  # noqa: B018  # decoded only when asked for: ask now
            return crl
    except UNREADABLE as error:
        raise _malformed("crl", "a DER or PEM revocation list", _first_line(error)) from None


def serial_number(certificate: x509.Certificate) -> int:
    """The serial number; zero is AMD's way."""
    with _serial_zero_is_expected():
        return certificate.serial_number


@contextmanager
def _serial_zero_is_expected() -> Iterator[None]:
    # AMD gives every report-signing certificate the serial number 0, which the library warns about.
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # a name the library only tolerates is one we refuse
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        yield


def _malformed(what: str, expected: str, got: object) -> FormatRefused:
    return FormatRefused(f"{what}.malformed", expected=expected, got=got)


def _first_line(error: Exception) -> str:
    """Without what a library says of its own values."""
    return str(error).partition("\n")[0].partition(": ParseError")[0][:120] or "undecodable bytes"
