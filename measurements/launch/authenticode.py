"""How UEFI hashes a program before it starts it: a PE file without the places a signature changes.

A kernel with an EFI stub is such a file, and so is a unified kernel image. docs/spec/measure.md M12.
"""

from __future__ import annotations

import hashlib
from typing import Final

from foundation.refusal import shown
from measurements.launch.errors import LaunchRefused

PROGRAM_BYTES_MAX: Final = 1 << 30
SECTIONS_MAX: Final = 96  # the loader's own bound
_PE32_PLUS: Final = 0x20B
_CHECKSUM, _CERTIFICATES, _DIRECTORIES = 64, 144, 108  # in the optional header of PE32+
_COFF_BYTES, _SECTION_BYTES = 24, 40


def authenticode(program: bytes, algorithm: str = "sha384") -> bytes:
    """The digest a signature over `program` signs and firmware measures. Raises `LaunchRefused` alone."""
    if len(program) > PROGRAM_BYTES_MAX:
        raise LaunchRefused("pe.size", expected=f"at most {PROGRAM_BYTES_MAX} bytes", got=f"{len(program)} bytes")
    layout = _Layout(program)
    digest = hashlib.new(algorithm)
    for start, end in layout.hashed():
        digest.update(memoryview(program)[start:end])
    return digest.digest()


class _Layout:
    """Where things are in one PE32+ file, every offset checked against the file."""

    def __init__(self, program: bytes) -> None:
        self._program = program
        self._want(program[:2] == b"MZ", "a file that begins with MZ", program[:2])
        header = self._number(0x3C, 4)
        self._want(
            program[header : header + 4] == b"PE\0\0", "a PE header where the file says", program[header : header + 4]
        )
        sections, optional_bytes = self._number(header + 6, 2), self._number(header + 20, 2)
        self.optional = header + _COFF_BYTES
        magic = self._number(self.optional, 2)
        self._want(magic == _PE32_PLUS, "PE32+", hex(magic))
        directories = self._number(self.optional + _DIRECTORIES, 4)
        self._want(4 < directories <= 16, "a directory of certificates", f"{directories} directories")
        self._want(optional_bytes >= 112 + 8 * directories, "an optional header with its directories", optional_bytes)
        self._want(0 < sections <= SECTIONS_MAX, f"1 to {SECTIONS_MAX} sections", sections)
        self._table = self.optional + optional_bytes
        self._count = sections
        self.headers_end = self._number(self.optional + 60, 4)
        table_end = self._table + sections * _SECTION_BYTES
        held = f"{table_end}, {self.headers_end} and a file of {len(program)} bytes"
        self._want(table_end <= self.headers_end <= len(program), "headers inside it", held)
        self._certificates = self._found_certificates()

    def hashed(self) -> list[tuple[int, int]]:
        """The parts in order: headers with two holes, sections by their place in the file, what follows them."""
        checksum, entry = self.optional + _CHECKSUM, self.optional + _CERTIFICATES
        parts = [(0, checksum), (checksum + 4, entry), (entry + 8, self.headers_end)]
        at = self.headers_end
        for start, end in self._sections():
            # Firmware adds up sizes and takes it that sections lie end to end; where they do not, readers differ.
            self._want(start == at, "sections end to end", f"one at {start}, {at} expected")
            parts.append((start, end))
            at = end
        self._want(at <= self._certificates, "certificates behind the sections", f"{self._certificates}, before {at}")
        return [*parts, (at, self._certificates)]

    def _sections(self) -> list[tuple[int, int]]:
        found = []
        for number in range(self._count):
            row = self._table + number * _SECTION_BYTES
            size, start = self._number(row + 16, 4), self._number(row + 20, 4)
            if size:
                self._want(
                    start + size <= len(self._program), "sections inside the file", f"one that ends at {start + size}"
                )
                found.append((start, start + size))
        return sorted(found)

    def _found_certificates(self) -> int:
        """Where the certificates begin; the end of the file where there are none."""
        start, size = self._number(self.optional + _CERTIFICATES, 4), self._number(self.optional + _CERTIFICATES + 4, 4)
        if not size:
            return len(self._program)
        fits = start >= self.headers_end and start + size == len(self._program)
        self._want(fits, "certificates at its very end", f"{size} bytes at {start} of {len(self._program)}")
        return start

    def _number(self, at: int, size: int) -> int:
        self._want(at + size <= len(self._program), "a whole file", f"{len(self._program)} bytes")
        return int.from_bytes(self._program[at : at + size], "little")

    @staticmethod
    def _want(holds: bool, what: str, got: object) -> None:
        if not holds:
            raise LaunchRefused("pe.format", expected=what, got=shown(got) if isinstance(got, bytes) else got)
