"""The certificate table that may lie beside an SNP report (configfs-tsm `auxblob`).

Entries of 24 bytes, {GUID, u32 offset, u32 length}, up to an all-zero entry; offsets count from the start
of the table. The host writes it, so every length is checked before it is used, and every byte of the blob
must be accounted for: nothing may hide between or after the values (docs/spec/evidence-production.md E116).

Parsing a certificate proves nothing: this gives DER bytes under the names the host gave them.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from attestation.errors import FormatRefused
from attestation.evidence.cursor import first_set

AUXBLOB_BYTES_MAX = 32 * 1024
ENTRIES_MAX = 16
ENTRY_BYTES = 24
TERMINATOR = bytes(ENTRY_BYTES)

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,32})-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END \1-----[\r\n]*")


class MalformedAuxblob(FormatRefused):
    """The bytes are no certificate table."""


def _refusal(code: str, expected: object, got: object) -> MalformedAuxblob:
    return MalformedAuxblob(f"auxblob.{code}", expected=expected, got=got)


class TableEntry(Enum):
    """What an entry says it holds: the registered GUIDs, in RFC 4122 byte order."""

    VCEK = UUID("63da758d-e664-4564-adc5-f4b93be8accd")
    VLEK = UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1")
    ASK = UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782")
    ARK = UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae")
    CRL = UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea")


@dataclass(frozen=True, slots=True)
class CertificateTable:
    """DER by entry, exactly as the host offered it. Empty when the host offered none."""

    values: Mapping[TableEntry, bytes]
    unknown: tuple[UUID, ...] = ()

    def get(self, entry: TableEntry) -> bytes | None:
        return self.values.get(entry)

    @classmethod
    def parse(cls, auxblob: bytes) -> CertificateTable:
        """Raises `MalformedAuxblob`, nothing else."""
        if not auxblob:
            return cls({})
        if len(auxblob) > AUXBLOB_BYTES_MAX:
            raise _refusal("length", f"at most {AUXBLOB_BYTES_MAX}", len(auxblob))
        entries, table_end = _entries(auxblob)
        _account_for_every_byte(auxblob, entries, table_end)
        values: dict[TableEntry, bytes] = {}
        unknown: list[UUID] = []
        for guid, offset, length in entries:
            try:
                entry = TableEntry(guid)
            except ValueError:
                unknown.append(guid)  # a vendor may add kinds; what is not understood is listed, not used
                continue
            values[entry] = _der(entry, auxblob[offset : offset + length])
        return cls(values, tuple(unknown))


def encode_table(values: Mapping[TableEntry, bytes]) -> bytes:
    """The table a host would write: the entries in the given order, then the values without gaps."""
    offset = ENTRY_BYTES * (len(values) + 1)
    head, body = bytearray(), bytearray()
    for entry, value in values.items():
        place = offset + len(body)
        head += entry.value.bytes + place.to_bytes(4, "little") + len(value).to_bytes(4, "little")
        body += value
    return bytes(head) + TERMINATOR + bytes(body)


def _entries(auxblob: bytes) -> tuple[list[tuple[UUID, int, int]], int]:
    """The entries and where the table ends; a table without its terminator is refused."""
    entries: list[tuple[UUID, int, int]] = []
    seen: set[UUID] = set()
    for at in range(0, ENTRY_BYTES * (ENTRIES_MAX + 1), ENTRY_BYTES):
        raw = auxblob[at : at + ENTRY_BYTES]
        if len(raw) < ENTRY_BYTES:
            raise _refusal("terminator", "an all-zero entry", "the end of the blob")
        if raw == TERMINATOR:
            return entries, at + ENTRY_BYTES
        guid = UUID(bytes=raw[:16])
        if guid in seen:
            raise _refusal("duplicate", "each entry once", guid)
        seen.add(guid)
        entries.append((guid, int.from_bytes(raw[16:20], "little"), int.from_bytes(raw[20:], "little")))
    raise _refusal("entries", f"at most {ENTRIES_MAX} entries", f"more than {ENTRIES_MAX}")


def _account_for_every_byte(auxblob: bytes, entries: list[tuple[UUID, int, int]], table_end: int) -> None:
    """Values follow the table without overlap; what lies between them, or pads the last page, is zero."""
    free = table_end
    for guid, offset, length in sorted(entries, key=lambda entry: entry[1]):
        if length == 0:
            raise _refusal("empty-value", "at least one byte", f"none for {guid}")
        if offset + length > len(auxblob):
            raise _refusal("range", f"within {len(auxblob)} bytes", offset + length)
        if offset < free:
            raise _refusal("overlap", f"from {free} on", f"{offset} for {guid}")
        if any(auxblob[free:offset]):
            raise _refusal("gap", "zeros between values", first_set(auxblob[free:offset], free))
        free = offset + length
    if any(auxblob[free:]):
        raise _refusal("trailing", "zeros after the last value", first_set(auxblob[free:], free))


def _der(entry: TableEntry, value: bytes) -> bytes:
    """One DER element: as it is, or out of exactly one PEM block of the right label."""
    if not value.startswith(b"-----BEGIN "):
        return _one_element(entry, value)
    match = _PEM.fullmatch(value)
    label = b"X509 CRL" if entry is TableEntry.CRL else b"CERTIFICATE"
    if match is None or match[1] != label:
        raise _refusal("pem", f"one {label.decode()} block", f"others in {entry.name}")
    try:
        return _one_element(entry, base64.b64decode(re.sub(rb"[\r\n]", b"", match[2]), validate=True))
    except binascii.Error as error:
        raise _refusal("pem", "base64", f"others in {entry.name}") from error


def _one_element(entry: TableEntry, der: bytes) -> bytes:
    """A DER SEQUENCE that fills its space: what follows it is unsigned, so nothing may."""
    size = _sequence_bytes(der)
    if size is None or size != len(der):
        raise _refusal("der", "one DER sequence", f"{len(der)} bytes in {entry.name}")
    return bytes(der)


def _sequence_bytes(der: bytes) -> int | None:
    if len(der) < 2 or der[0] != 0x30:
        return None
    if der[1] < 0x80:
        return 2 + der[1]
    count = der[1] & 0x7F
    if not 1 <= count <= 3 or len(der) < 2 + count or der[2] == 0:
        return None
    length = int.from_bytes(der[2 : 2 + count], "big")
    return 2 + count + length if length >= 0x80 and (count == 1 or length >= 1 << (8 * (count - 1))) else None
