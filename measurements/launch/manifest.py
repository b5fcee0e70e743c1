"""The launch part of a release: every measurement its files can lead to, in one strict document.

    {"inputs": {"cmdline": {"bytes": 41, "sha256": "…", "text": "…"}, "initrd": {…}, "kernel": {…}, …},
     "launch": 1,
     "snp": [{"guest_features": 1, "measurement": "…", "signature": 8392466, "types": ["EPYC", …], "vcpus": 1}, …],
     "tdx": {"mrtd": {"interleaved": "…", "pages-first": "…"}, "rtmr": [{"about": "…", "by": "event-log"}, …]}}

One accepted encoding: JSON with sorted keys, no white space, ASCII, integers alone. docs/spec/measure.md M17 to M20.
It says what the files lead to; who vouches for the files is governance's matter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, Self, TypeVar

from measurements.launch.errors import LaunchRefused
from measurements.launch.footer import Firmware
from measurements.launch.mrtd import PageOrder, mrtd
from measurements.launch.rtmr import DIGEST_BYTES, REGISTERS, JudgedBy, PredictedEvent, Register, predicted_registers
from measurements.launch.sev import KernelHashes, cmdline_bytes
from measurements.launch.snp import DEBUG_SWAP, PROCESSORS, SNP_ACTIVE, VCPUS_MAX, SnpLaunch

VERSION: Final = 1
MANIFEST_BYTES_MAX: Final = 1 << 20
COUNTS: Final = (1, 2, 4, 8, 16, 32, 64)
GUEST_FEATURES: Final = (SNP_ACTIVE, SNP_ACTIVE | DEBUG_SWAP)
_INPUTS: Final = frozenset({"snp_firmware", "tdx_firmware", "kernel", "initrd", "cmdline"})
_SNP_MAX: Final = 4096
_TEXT_MAX: Final = 4096
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Input:
    """One file as it was measured; `text` is the command line's alone."""

    sha256: bytes
    size: int
    text: str | None = None


@dataclass(frozen=True, slots=True)
class SnpMeasurement:
    """What a chip signs for this signature, number of processors and features; `types` are QEMU's names for it."""

    signature: int
    types: tuple[str, ...]
    vcpus: int
    guest_features: int
    measurement: bytes


@dataclass(frozen=True, slots=True)
class TdxMeasurement:
    mrtd: Mapping[PageOrder, bytes]
    registers: tuple[Register, ...]


@dataclass(frozen=True, slots=True)
class LaunchManifest:
    inputs: Mapping[str, Input]
    snp: tuple[SnpMeasurement, ...]
    tdx: TdxMeasurement | None

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """M19: the canonical bytes and no others. Raises `LaunchRefused` alone."""
        if len(raw) > MANIFEST_BYTES_MAX:
            raise LaunchRefused("manifest.size", expected=f"at most {MANIFEST_BYTES_MAX} bytes", got=len(raw))
        try:
            value = json.loads(raw.decode("ascii"), parse_float=_refuse_number, parse_constant=_refuse_number)
        except (ValueError, RecursionError) as error:
            raise LaunchRefused("manifest.json", expected="JSON in ASCII", got=type(error).__name__) from None
        made = cls.from_json(value)
        if made.encode() != raw:
            raise LaunchRefused("manifest.canonical", expected="sorted keys, no white space, each key once", got="else")
        return made

    @classmethod
    def from_json(cls, value: object) -> Self:
        """From what a larger document holds under `launch`. Raises `LaunchRefused` alone."""
        fields = _object("manifest", value, {"inputs", "launch", "snp", "tdx"})
        if fields["launch"] != VERSION or isinstance(fields["launch"], bool):
            raise LaunchRefused("manifest.launch", expected=VERSION, got=str(fields["launch"])[:32])
        inputs = fields["inputs"]
        if not isinstance(inputs, dict) or not inputs or not inputs.keys() <= _INPUTS:
            raise LaunchRefused("manifest.inputs", expected=f"some of {sorted(_INPUTS)}", got="else")
        tdx = fields["tdx"]
        return cls(
            {name: _input(name, each) for name, each in inputs.items()},
            _distinct(tuple(_list("snp", fields["snp"], _SNP_MAX, _snp))),
            None if tdx is None else _tdx(tdx),
        )

    def to_json(self) -> dict[str, object]:
        return {
            "inputs": {name: _input_json(each) for name, each in self.inputs.items()},
            "launch": VERSION,
            "snp": [
                {"guest_features": each.guest_features, "measurement": each.measurement.hex(),
                 "signature": each.signature, "types": list(each.types), "vcpus": each.vcpus}
                for each in self.snp
            ],
            "tdx": None if self.tdx is None else {
                "mrtd": {order.value: value.hex() for order, value in self.tdx.mrtd.items()},
                "rtmr": [_register_json(each) for each in self.tdx.registers],
            },
        }

    def encode(self) -> bytes:
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")

    def find_snp(self, signature: int, vcpus: int, guest_features: int) -> bytes | None:
        """The measurement for one way to start the machine, if it is among these."""
        return next(
            (each.measurement for each in self.snp
             if (each.signature, each.vcpus, each.guest_features) == (signature, vcpus, guest_features)), None)


def measure_snp(
    firmware: bytes, kernel: bytes, initrd: bytes, cmdline: str, *,
    counts: Sequence[int] = COUNTS, features: Sequence[int] = GUEST_FEATURES,
) -> LaunchManifest:
    """M17: every signature, these counts, these features. Raises `LaunchRefused` alone."""
    launch = SnpLaunch.of(Firmware.parse(firmware), KernelHashes.of(kernel, initrd, cmdline))
    found = tuple(
        SnpMeasurement(each.signature, each.types, vcpus, guest_features, measurement)
        for each in PROCESSORS for guest_features in features
        for vcpus, measurement in launch.digests(each.signature, guest_features, counts).items()
    )
    return LaunchManifest({"snp_firmware": _file(firmware), **_inputs(kernel, initrd, cmdline)}, found, None)


def measure_tdx(firmware: bytes, kernel: bytes, initrd: bytes, cmdline: str) -> LaunchManifest:
    """MRTD in both orders and the registers as far as they can be foreseen. Raises `LaunchRefused` alone."""
    parsed = Firmware.parse(firmware)
    measured = TdxMeasurement(
        {order: mrtd(parsed, order) for order in PageOrder}, predicted_registers(kernel, initrd, cmdline))
    return LaunchManifest({"tdx_firmware": _file(firmware), **_inputs(kernel, initrd, cmdline)}, (), measured)


def joined(snp: LaunchManifest, tdx: LaunchManifest) -> LaunchManifest:
    """M18: one document for both kinds of machine, if kernel, initrd and command line are the same."""
    for name in snp.inputs.keys() & tdx.inputs.keys():
        if snp.inputs[name] != tdx.inputs[name]:
            raise LaunchRefused(f"manifest.{name}", expected="one file for both kinds of machine", got="two")
    return LaunchManifest({**snp.inputs, **tdx.inputs}, snp.snp, tdx.tdx)


# -- making

def _file(content: bytes) -> Input:
    return Input(hashlib.sha256(content).digest(), len(content))


def _inputs(kernel: bytes, initrd: bytes, cmdline: str) -> dict[str, Input]:
    line = cmdline_bytes(cmdline).removesuffix(b"\0")
    text = Input(hashlib.sha256(line).digest(), len(line), cmdline)
    return {"kernel": _file(kernel), "initrd": _file(initrd), "cmdline": text}


def _input_json(each: Input) -> dict[str, object]:
    fields: dict[str, object] = {"bytes": each.size, "sha256": each.sha256.hex()}
    return fields if each.text is None else {**fields, "text": each.text}


def _register_json(each: Register) -> dict[str, object]:
    fields: dict[str, object] = {"about": each.about, "by": each.judged_by.value}
    if each.value is None:
        return fields
    events = [{"digest": event.digest.hex(), "kind": event.kind, "what": event.what} for event in each.events]
    return {**fields, "events": events, "value": each.value.hex()}


# -- reading

def _refuse_number(_text: str) -> NoReturn:
    raise ValueError("a number that is no integer")


def _object(what: str, value: object, keys: set[str]) -> dict[str, object]:
    if not isinstance(value, dict) or value.keys() != keys:
        got = sorted(map(str, value))[:16] if isinstance(value, dict) else type(value).__name__
        raise LaunchRefused(f"manifest.{what}", expected=sorted(keys), got=got)
    return value


def _list(what: str, value: object, most: int, read: Callable[[object], T]) -> list[T]:
    if not isinstance(value, list) or len(value) > most:
        raise LaunchRefused(f"manifest.{what}", expected=f"a list of at most {most}", got=type(value).__name__)
    return [read(each) for each in value]


def _text(what: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > _TEXT_MAX or not value.isascii():
        raise LaunchRefused(f"manifest.{what}", expected=f"ASCII of at most {_TEXT_MAX}", got=type(value).__name__)
    return value


def _hex(what: str, value: object, size: int) -> bytes:
    text = _text(what, value)
    if len(text) != 2 * size or set(text) - set("0123456789abcdef"):
        raise LaunchRefused(f"manifest.{what}", expected=f"{size} bytes in lower-case hexadecimal", got="else")
    return bytes.fromhex(text)


def _number(what: str, value: object, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise LaunchRefused(f"manifest.{what}", expected=f"{least} to {most}", got=str(value)[:32])
    return value


def _input(name: str, value: object) -> Input:
    keys = {"bytes", "sha256"} | ({"text"} if name == "cmdline" else set())
    fields = _object(f"inputs.{name}", value, keys)
    digest, size = _hex("sha256", fields["sha256"], 32), _number("bytes", fields["bytes"], 0, 1 << 40)
    if name != "cmdline":
        return Input(digest, size)
    text = _text("text", fields["text"])
    line = cmdline_bytes(text).removesuffix(b"\0")
    if (hashlib.sha256(line).digest(), len(line)) != (digest, size):
        raise LaunchRefused("manifest.inputs.cmdline", expected="a text with its own digest and size", got="others")
    return Input(digest, size, text)


def _snp(value: object) -> SnpMeasurement:
    fields = _object("snp", value, {"guest_features", "measurement", "signature", "types", "vcpus"})
    types = tuple(_list("types", fields["types"], 64, lambda each: _text("types", each)))
    if not types or list(types) != sorted(set(types)):
        raise LaunchRefused("manifest.types", expected="names, sorted, each once", got="else")
    return SnpMeasurement(
        _number("signature", fields["signature"], 0, (1 << 32) - 1), types,
        _number("vcpus", fields["vcpus"], 1, VCPUS_MAX),
        _number("guest_features", fields["guest_features"], 1, (1 << 53) - 1),
        _hex("measurement", fields["measurement"], DIGEST_BYTES),
    )


def _distinct(found: tuple[SnpMeasurement, ...]) -> tuple[SnpMeasurement, ...]:
    """M20: one measurement for one way to start, in one order."""
    ways = [(each.signature, each.guest_features, each.vcpus) for each in found]
    if ways != sorted(set(ways)):
        raise LaunchRefused("manifest.snp", expected="by signature, features and number, each once", got="else")
    return found


def _tdx(value: object) -> TdxMeasurement:
    fields = _object("tdx", value, {"mrtd", "rtmr"})
    orders = _object("mrtd", fields["mrtd"], {order.value for order in PageOrder})
    registers = _list("rtmr", fields["rtmr"], REGISTERS, _register)
    if len(registers) != REGISTERS:
        raise LaunchRefused("manifest.rtmr", expected=f"{REGISTERS} registers", got=len(registers))
    return TdxMeasurement(
        {order: _hex("mrtd", orders[order.value], DIGEST_BYTES) for order in PageOrder}, tuple(registers))


def _register(value: object) -> Register:
    by = value.get("by") if isinstance(value, dict) else None
    predicted = by == JudgedBy.PREDICTION.value
    fields = _object("rtmr", value, {"about", "by"} | ({"events", "value"} if predicted else set()))
    about = _text("about", fields["about"])
    if not predicted:
        if by != JudgedBy.EVENT_LOG.value:
            raise LaunchRefused("manifest.rtmr", expected="prediction or event-log", got=str(by)[:32])
        return Register(JudgedBy.EVENT_LOG, about)
    register = Register(JudgedBy.PREDICTION, about, tuple(_list("events", fields["events"], 256, _event)))
    if _hex("value", fields["value"], DIGEST_BYTES) != register.value:
        raise LaunchRefused("manifest.rtmr", expected="the value its events lead to", got="another")
    return register


def _event(value: object) -> PredictedEvent:
    fields = _object("event", value, {"digest", "kind", "what"})
    return PredictedEvent(
        _number("kind", fields["kind"], 0, (1 << 32) - 1), _hex("digest", fields["digest"], DIGEST_BYTES),
        _text("what", fields["what"]))
