"""The few DER shapes that a simulated vendor extension is made of."""

from __future__ import annotations

OCTET_STRING, SEQUENCE, ENUMERATED, IA5_STRING = 0x04, 0x30, 0x0A, 0x16


def element(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def integer(value: int) -> bytes:
    """A non-negative INTEGER, shortest form."""
    return element(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def object_identifier(dotted: str) -> bytes:
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    return element(0x06, bytes([40 * first + second]), *(_base128(arc) for arc in rest))


def _base128(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | value & 0x7F)
    return bytes(reversed(groups))
