"""Files that are named on a command line: what each has to be, and what to do where one is not.

    manifest = MANIFEST.parsed(path, Manifest.parse)        # a refusal then names the file and its kind
    with PACK.at(path): ...                                 # the same, around what opens the file itself

The one place where an `OSError`, or a text that cannot be decoded, becomes a refusal: no verb catches them. What a
parser refuses keeps its class and code, so that the exit status follows from them; the file is a note on it.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

from foundation.document import SPACED_HEX, hexadecimal, undecoded
from foundation.refusal import Refused
from foundation.secrecy import Secret
from measurements.pack.errors import PackKeyRefused
from measurements.pack.keys import read_key

FILE_BYTES_MAX: Final = 32 * 1024 * 1024
T = TypeVar("T")

_GOT: Final[Mapping[int, tuple[str, str]]] = MappingProxyType(
    {
        errno.ENOENT: ("file.missing", "nothing under this name"),
        errno.EISDIR: ("file.folder", "a folder"),
        errno.ENOTDIR: ("file.path", "a path through something that is not a folder"),
        errno.EACCES: ("file.permission", "no permission"),
        errno.EPERM: ("file.permission", "no permission"),
        errno.EROFS: ("file.permission", "a file system that takes no writes"),
        errno.EEXIST: ("file.exists", "a name that is taken"),
        errno.ENOTEMPTY: ("file.exists", "a folder that is not empty"),
        errno.ELOOP: ("file.link", "a symbolic link"),
        errno.ENAMETOOLONG: ("file.name", "a name that is too long"),
        errno.ENOSPC: ("file.space", "no space left"),
        errno.ENXIO: ("file.socket", "a pipe or socket that nobody serves"),
        errno.ECONNREFUSED: ("file.socket", "a socket that nobody serves"),
    }
)
_PART: Final = re.compile(r"(?<![^/])\.([^/]+)\.[0-9a-f]{16}\.part\Z")
_REMEDIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "file.missing": "check the path; the folder of a file to be written has to be there",
        "file.folder": "name a file in it",
        "file.permission": "give this user the right to it, or name another place",
        "file.exists": "name one that is not there yet, or move it away",
        "file.link": "name the file that it leads to",
        "file.space": "make room, or name another place",
    }
)


class UsageRefused(Refused):
    """The command line names something that can't be used."""

    stage = "usage"


class FileRefused(UsageRefused):
    """What is named is not there, cannot be read or written, or is not such a file at all."""

    stage = "file"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file has to be, and where one comes from."""

    called: str
    remedy: str

    def read(self, path: str | Path, bytes_max: int = FILE_BYTES_MAX, *, empty: bool = False) -> bytes:
        """All of a file of bounded size, which is not empty unless that is allowed. Raises `FileRefused`."""
        with self.at(path), Path(path).open("rb") as file:
            raw = file.read(bytes_max + 1)
        if not raw and not empty:
            raise FileRefused("file.empty", expected=f"{self.called} in {path}", got="an empty file", hint=self.remedy)
        if len(raw) > bytes_max:
            raise FileRefused(
                "file.size", expected=f"{self.called} of at most {bytes_max} bytes in {path}", got=f"{bytes_max + 1}"
            )
        return raw

    def parsed(self, path: str | Path, parse: Callable[[bytes], T]) -> T:
        """What `parse` makes of the file's bytes. Raises `FileRefused`, and what `parse` refuses with."""
        raw = self.read(path)
        with self.at(path):
            return parse(raw)

    @contextmanager
    def at(self, path: str | Path) -> Iterator[None]:
        """Around what reads a file of this kind: whatever is refused in here names it."""
        try:
            yield
        except OSError as error:
            raise refused_file(error, path, self) from None
        except UnicodeError as error:
            raise FileRefused(
                "file.text", expected=f"{self.called} in {path}", got=undecoded(error), hint=self.remedy
            ) from None
        except Refused as refusal:
            self.note(refusal, path)
            raise

    def note(self, refusal: Refused, path: str | Path) -> None:
        """Says of a refusal that it is about this file. The first to say so is right: it read the file."""
        if isinstance(refusal, FileRefused) or notes(refusal):
            return
        if isinstance(refusal, PackKeyRefused) and self is PACK:  # it is a pack, and the key is another's
            refusal.add_note(f"{path} was sealed with the key of another file")
        else:
            refusal.add_note(f"{path} has to be {self.called}: {self.remedy}")


def refused_file(error: OSError, path: str | Path | None = None, kind: Kind | None = None) -> FileRefused:
    """What the system said, in words: which file, what it has to be, what to do."""
    name = error.filename if isinstance(error.filename, str | bytes) else path  # it may be a descriptor
    if path is not None and name is not None and not Path(_text(name)).is_relative_to(path):
        kind = None  # another file than the one that is read
    code, got = _GOT.get(error.errno or 0, ("file.system", (error.strerror or str(error)).lower()))
    if name is None:
        return FileRefused(code, expected="the system to allow it", got=got)
    if code == "file.exists":
        return FileRefused(code, expected=f"nothing at {_text(name)} yet", got=got, hint=_REMEDIES[code])
    if kind is None:
        return FileRefused(code, expected=f"to use {_text(name)}", got=got, hint=_REMEDIES.get(code))
    remedy = kind.remedy if code in ("file.missing", "file.folder", "file.path") else _REMEDIES.get(code)
    if path is not None and (inside := Path(_text(name)).relative_to(path)) != Path():
        return FileRefused(code, expected=f"{kind.called} in {path}", got=f"{got}: {inside}", hint=remedy)
    return FileRefused(code, expected=f"{kind.called} in {_text(name)}", got=got, hint=remedy)


def read_file(path: str | Path) -> bytes:
    """The bytes of a file whose kind the caller does not know. Raises `FileRefused`."""
    return FILE.read(path)


def reason_of(error: OSError) -> str:
    """What the system said, in words alone: why an address cannot be used, say."""
    return os.strerror(error.errno).lower() if error.errno else str(error)


def notes(error: BaseException) -> list[str]:
    """What was said of an exception on its way: which file it is about."""
    return list(getattr(error, "__notes__", ()))


def line_of(refusal: Refused) -> str:
    """All that a refusal says, on one line: what was expected, what came, what to do, about which file."""
    said = f"{refusal.stage}: {refusal.code}: expected {refusal.expected}, got {refusal.got}"
    return " ".join("; ".join(each for each in (said, refusal.hint, *notes(refusal)) if each).splitlines())


def hex_option(text: str, option: str, *sizes: int) -> bytes:
    """The bytes that a command-line option gives in hexadecimal, of one of `sizes` if any are named."""

    def refuse(code: str, *, expected: str, got: object) -> UsageRefused:
        return UsageRefused(code, expected=f"{expected} after {option}", got=got)

    return hexadecimal(text, "usage.hex", refuse, *sizes, form=SPACED_HEX)


def key_file(path: Path) -> Secret:
    """The key in a key file (pack.md P17)."""
    with KEY.at(path):
        return read_key(path)


def _text(name: object) -> str:
    """A path as it was given: what is written beside a file until it is whole is called by the file's name."""
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    return _PART.sub(r"\1", text)


ANSWER: Final = Kind("the frames of a sealed answer, joined", "the gateway's take_answer gives them")
AUTHORITY: Final = Kind("the document of an authority", "the governance canister's, or a charter with its members")
BROKER_CONFIG: Final = Kind("the configuration of a broker", "`anchorhold broker init` makes one")
BUNDLE: Final = Kind("an audit bundle", "whoever asks for the audit hands one over")
CELL_CONFIG: Final = Kind("a measured configuration (cell.toml)", "appliance/config.py says what stands in one")
BODY: Final = Kind("a body of the slice", "the gateway's get_entries gives one")
CERTIFICATE: Final = Kind("a certificate of the Internet Computer", "the reply of a certified call has one")
CHAIN: Final = Kind("certificates, in PEM or DER", "the maker of the chip publishes them")
CHECKPOINT: Final = Kind("a checkpoint of a cell's log", "whoever saw one of that log has it")
COLLATERAL: Final = Kind("collateral of a TDX platform, in JSON", "Intel's service gives it for the platform")
CRL: Final = Kind("a revocation list", "the maker of the chip publishes it")
DECISION: Final = Kind("a decision", "`anchorhold release decide` writes one")
DEVNET_ROOTS: Final = Kind("the roots of a devnet", "the demo writes them beside its bundle")
EVENT_LOG: Final = Kind("an event log: CCEL, or the JSON of dstack", "the machine has one beside its quote")
EVIDENCE: Final = Kind("an evidence bundle", "`anchorhold host identity` writes one")
FILE: Final = Kind("a file", "check the path")
FIRMWARE: Final = Kind("the firmware of a machine", "`make vm-tools` unpacks OVMF for both kinds")
GPU_REPORT: Final = Kind("an NVIDIA attestation report", "the device's driver gives one, raw or as JSON")
GPU_RIM: Final = Kind("a reference integrity manifest", "NVIDIA publishes one for each driver and VBIOS")
HASH_TREE: Final = Kind("a hash tree in CBOR", "the canister gives it beside the certificate")
HISTORY: Final = Kind("a history of decisions", "`anchorhold broker history` writes one")
IMAGE: Final = Kind("an image", "`anchorhold image build` makes one")
LAUNCH: Final = Kind("a launch manifest", "`anchorhold measure both` prints one")
MANIFEST: Final = Kind("a release manifest", "`anchorhold release draft` writes one")
MODEL: Final = Kind("a model's folder", "it holds config.json, tokenizer, template, card.json and safetensors")
OFFER: Final = Kind("an offer of a service key, in hexadecimal", "`anchorhold broker service offers` prints them")
PACK: Final = Kind("a model pack", "`anchorhold pack seal` writes one")
KEY: Final = Kind(
    "a key file: 64 lower-case hexadecimal digits, readable by its owner alone",
    "(umask 077; openssl rand -hex 32 > FILE) makes a new one",
)
PAYLOAD: Final = Kind("the payload of a proposal", "`anchorhold release propose` writes payload.bin")
POLICY: Final = Kind("a policy document", "`anchorhold policy explain` shows what a built-in one says")
QUESTION: Final = Kind("what `anchorhold ask --keep` wrote", "without this file nobody can read the answer")
RECEIPT: Final = Kind("a signed receipt", "the gateway keeps one beside each answer")
REFERENCES: Final = Kind("reference values in TOML", "the policy guide says what stands in them")
ROOT_CERTIFICATE: Final = Kind("a root certificate, in PEM or DER", "whoever simulates the machine has it")
PROMPTS: Final = Kind("prompts in UTF-8, one a line", "two lines are enough")
SECRET: Final = Kind("the bytes of a secret", "its owner has them")
SLICE_PROOF: Final = Kind("a slice proof", "the gateway's get_slice gives one")
SNP_REPORT: Final = Kind("an SEV-SNP report of 1184 bytes", "the machine's /dev/sev-guest gives one")
TDX_QUOTE: Final = Kind("a TDX quote, raw or in JSON", "the machine's configfs gives one")
VEK: Final = Kind("a VCEK or VLEK certificate", "the host has it, or AMD's service for the chip")
