"""Quotes through Linux configfs-tsm: one code path for SEV-SNP and TDX.

Every request has a directory of its own under `/sys/kernel/config/tsm/report` (E110). The kernel applies a
write to a binary attribute when the file is closed, and throws the error away; and anyone with the same
rights may write in between. So nothing that is read is believed until `generation` has advanced by exactly
the number of writes made here (E111), and the report itself carries the bytes that were asked for (E114).
The rules are in docs/spec/evidence-production.md.

It does not judge the quote: signatures, certificates and measurements are for whoever receives it.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from attestation.evidence.kinds import Evidence, TeeKind
from attestation.evidence.outblob import MalformedOutblob, bound_report_data, exact_report
from attestation.tee.errors import TeeRefused
from attestation.tee.tee import REPORT_DATA_BYTES
from foundation.refusal import shown

REPORT_ROOT = Path("/sys/kernel/config/tsm/report")
GIVEN = "cell"  # made by process 1 of the image for the cell's user alone
OUTBLOB_BYTES_MAX = 32 * 1024  # the kernel's own bound on either blob
TEXT_BYTES_MAX = 4096  # a text attribute is at most one page
ATTEMPTS_MAX = 3  # E111: a directory nobody else knows should agree at once
PRIVLEVEL_MAX = 3

PROVIDERS = {"sev_guest": TeeKind.SNP, "tdx_guest": TeeKind.TDX}

# E112: each of these has one meaning here, and each a name of its own.
REASONS = {
    errno.EINVAL: ("report.input-refused", "inputs that the platform accepts"),
    errno.EBUSY: ("report.busy", "no earlier quote request still in flight"),
    errno.ETIMEDOUT: ("report.timed-out", "an answer from the host's quoting service"),
    errno.ENXIO: ("report.no-tee", "a TEE driver behind configfs-tsm"),
    errno.ENOTTY: ("report.no-tee", "a TEE driver behind configfs-tsm"),
    errno.EFBIG: ("report.too-big", f"blobs within {OUTBLOB_BYTES_MAX} bytes"),
    errno.EINTR: ("report.interrupted", "an undisturbed request"),
    errno.EIO: ("report.quoting-failed", "a quote from the host's quoting service"),
    errno.ENOENT: ("report.no-attribute", "configfs-tsm with this attribute"),
    errno.EEXIST: ("report.name-taken", "a directory name nobody else uses"),
    errno.EACCES: ("report.forbidden", "permission to ask for a quote"),
    errno.EPERM: ("report.forbidden", "permission to ask for a quote"),
}
OTHER_REASON = ("report.os-error", "configfs-tsm to work")


class Files(Protocol):
    """The four things asked of the kernel. Each raises `OSError`."""

    def mkdir(self, path: Path) -> None: ...
    def rmdir(self, path: Path) -> None: ...
    def read(self, path: Path, bytes_max: int) -> bytes:
        """Open, read until the end or one byte past `bytes_max`, close."""

    def write(self, path: Path, value: bytes) -> None:
        """Open, write once, close."""


class KernelFiles:
    """The real ones. Unbuffered, so that one write here is one write there."""

    def mkdir(self, path: Path) -> None:
        path.mkdir(mode=0o700)

    def rmdir(self, path: Path) -> None:
        path.rmdir()

    def read(self, path: Path, bytes_max: int) -> bytes:
        chunks: list[bytes] = []
        room = bytes_max + 1
        with _opened(path, os.O_RDONLY) as file:
            while room > 0 and (chunk := os.read(file, room)):
                chunks.append(chunk)
                room -= len(chunk)
        return b"".join(chunks)

    def write(self, path: Path, value: bytes) -> None:
        with _opened(path, os.O_WRONLY) as file:
            written = os.write(file, value)
        if written != len(value):
            raise OSError(errno.EIO, f"{written} of {len(value)} bytes were taken")


@contextmanager
def _opened(path: Path, mode: int) -> Iterator[int]:
    file = os.open(path, mode | os.O_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)


class ReportDirectory:
    """One request's directory: its writes are counted, and a read tells whether they were all there were."""

    def __init__(self, files: Files, path: Path) -> None:
        self._files, self._path = files, path
        self._expected_generation = 0

    def generation(self) -> int:
        text = self.read("generation", TEXT_BYTES_MAX)
        if not re.fullmatch(rb"[0-9]{1,20}\n?", text):
            raise TeeRefused("report.generation", expected="a decimal number", got=f"{len(text)} other bytes")
        return int(text)

    def begin(self) -> None:
        """Count from here: what was written before is not ours to judge."""
        self._expected_generation = self.generation()

    def write(self, attribute: str, value: bytes) -> None:
        with _named(attribute):
            self._files.write(self._path / attribute, value)
        self._expected_generation += 1

    def read(self, attribute: str, bytes_max: int) -> bytes:
        with _named(attribute):
            value = self._files.read(self._path / attribute, bytes_max)
        if len(value) > bytes_max:
            raise TeeRefused(
                "report.too-big", expected=f"{bytes_max} bytes of {attribute}", got=f"{len(value)} bytes or more"
            )
        return value

    def read_if_present(self, attribute: str, bytes_max: int) -> bytes:
        """TDX has no `auxblob`, and an old SNP driver may have none: then there is nothing, not a failure."""
        try:
            return self.read(attribute, bytes_max)
        except TeeRefused as refusal:
            if refusal.code != "report.no-attribute":
                raise
            return b""

    def undisturbed(self) -> bool:
        """E111: whether our writes since `begin`, all of them and no other, were applied."""
        return self.generation() == self._expected_generation


@dataclass(frozen=True, slots=True)
class ConfigfsTee:
    """The TEE this Linux runs in. Use `detect`; the fields exist so that a test can stand elsewhere.

    `privlevel` is the VMPL an SNP report is asked for; `service_provider` names an SVSM. Not every driver has
    them, and asking for one that is not there is refused rather than ignored.
    """

    kind: TeeKind
    root: Path = REPORT_ROOT
    privlevel: int | None = None
    service_provider: str | None = None
    files: Files = field(default_factory=KernelFiles)
    new_name: Callable[[], str] = field(default=lambda: f"anchorhold-{secrets.token_hex(16)}")
    given: str | None = None  # E110: the directory made for us, where we may make none
    _in_turn: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    @classmethod
    def detect(cls, root: Path = REPORT_ROOT, files: Files | None = None) -> ConfigfsTee:
        """Ask the kernel which driver answers. Raises `TeeRefused` where there is none that is known here."""
        used = files or KernelFiles()
        try:
            return cls._detect(cls(TeeKind.SNP, root=root, files=used))
        except TeeRefused as refusal:
            if refusal.code != "report.forbidden":
                raise
        return cls._detect(cls(TeeKind.SNP, root=root, files=used, given=GIVEN))

    def _detect(self) -> ConfigfsTee:
        with self._directory() as directory:
            return replace(self, kind=_provider(directory))

    def quote(self, report_data: bytes) -> Evidence:
        """Evidence over exactly these 64 bytes. Raises `TeeRefused`, nothing else.

        It does not show that the report is genuine, or that the host did not read it: both blobs are public.
        """
        if len(report_data) != REPORT_DATA_BYTES:
            raise TeeRefused("report.data-length", expected=REPORT_DATA_BYTES, got=len(report_data))
        with self._directory() as directory:
            for _ in range(ATTEMPTS_MAX):
                evidence = self._attempt(directory, report_data)
                if evidence is not None:
                    return _checked(evidence, report_data)
            raise TeeRefused(
                "report.disturbed",
                expected="generation to advance by our writes alone",
                got=f"another value, {ATTEMPTS_MAX} times",
                hint="a write was discarded by the kernel, or another process writes in this directory",
            )

    def _attempt(self, directory: ReportDirectory, report_data: bytes) -> Evidence | None:
        """One pass; None if anything but our own writes happened meanwhile."""
        directory.begin()
        self._write_options(directory)
        directory.write("inblob", report_data)
        if not directory.undisturbed():
            return None
        outblob = directory.read("outblob", OUTBLOB_BYTES_MAX)
        if not directory.undisturbed():
            return None
        auxblob = directory.read_if_present("auxblob", OUTBLOB_BYTES_MAX)
        kind = _provider(directory)
        if not directory.undisturbed():
            return None
        if kind is not self.kind:  # E113: the kind is bound in the report data, so it cannot change under us
            raise TeeRefused("report.provider", expected=self.kind.value, got=kind.value)
        return Evidence(kind, outblob, auxblob)

    def _write_options(self, directory: ReportDirectory) -> None:
        if self.privlevel is not None:
            floor = _small_number(directory.read("privlevel_floor", TEXT_BYTES_MAX))
            if not floor <= self.privlevel <= PRIVLEVEL_MAX:
                allowed = f"{floor} to {PRIVLEVEL_MAX}"
                raise TeeRefused("report.privlevel", expected=allowed, got=self.privlevel)
            directory.write("privlevel", str(self.privlevel).encode())
        if self.service_provider is not None:
            directory.write("service_provider", self.service_provider.encode())

    @contextmanager
    def _directory(self) -> Iterator[ReportDirectory]:
        """E110: a new one for this request, gone afterwards whatever happened; or the given one, for one at a time."""
        if self.given is not None:
            with self._in_turn:
                yield ReportDirectory(self.files, self.root / self.given)
            return
        path = self.root / self.new_name()
        with _named("the report directory"):
            self.files.mkdir(path)
        try:
            yield ReportDirectory(self.files, path)
        finally:
            with _named("the report directory"):
                self.files.rmdir(path)


def _checked(evidence: Evidence, report_data: bytes) -> Evidence:
    """E114, E115: the report without its padding, known to carry what was asked for."""
    try:
        report = exact_report(evidence.kind.format, evidence.report)
        bound = bound_report_data(evidence.kind.format, report)
    except MalformedOutblob as refusal:
        raise TeeRefused(refusal.code, expected=refusal.expected, got=refusal.got) from refusal
    if bound != report_data:
        raise TeeRefused("report.other-data", expected="a report over our own bytes", got=shown(bound))
    return Evidence(evidence.kind, report, evidence.auxblob)


def _provider(directory: ReportDirectory) -> TeeKind:
    name = directory.read("provider", TEXT_BYTES_MAX).rstrip(b"\n").decode("ascii", "backslashreplace")
    if name not in PROVIDERS:
        raise TeeRefused("report.provider", expected=" or ".join(PROVIDERS), got=repr(name[:32]))
    return PROVIDERS[name]


def _small_number(text: bytes) -> int:
    if not re.fullmatch(rb"[0-9]{1,2}\n?", text):
        raise TeeRefused("report.privlevel", expected="a small number", got=f"{len(text)} other bytes")
    return int(text)


@contextmanager
def _named(what: str) -> Iterator[None]:
    """E112: an errno becomes the refusal that says what it means."""
    try:
        yield
    except OSError as error:
        code, expected = REASONS.get(error.errno or 0, OTHER_REASON)
        got = errno.errorcode.get(error.errno or 0, "an unnamed error")
        raise TeeRefused(code, expected=expected, got=f"{got} at {what}") from error
