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
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

from foundation.document import Fields, json_value
from foundation.refusal import shown
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
_INPUTS: Final = ("snp_firmware", "tdx_firmware", "kernel", "initrd", "cmdline")
_SNP_MAX: Final = 4096
_TEXT_MAX: Final = 4096
_ASCII: Final = re.compile(r"[\0-\x7f]*")


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
        made = cls.from_json(json_value(raw, "manifest", LaunchRefused, bytes_max=MANIFEST_BYTES_MAX, encoding="ascii"))
        if (rendered := made.encode()) != raw:
            expected = f"sorted keys, no white space: {len(rendered)} bytes"
            raise LaunchRefused("manifest.canonical", expected=expected, got=f"other {len(raw)} bytes")
        return made

    @classmethod
    def from_json(cls, value: object) -> Self:
        """From what a larger document holds under `launch`. Raises `LaunchRefused` alone."""
        fields = _fields("manifest", value, "inputs", "launch", "snp", "tdx")
        fields.uint("launch", VERSION, VERSION)
        inputs = fields.named("inputs", len(_INPUTS), re.compile("|".join(_INPUTS)), least=1)
        tdx = fields.take("tdx")
        return cls(
            {name: _input(name, each) for name, each in inputs.items()},
            _distinct(tuple(map(_snp, fields.items("snp", _SNP_MAX)))),
            None if tdx is None else _tdx(tdx),
        )

    def to_json(self) -> dict[str, object]:
        return {
            "inputs": {name: _input_json(each) for name, each in self.inputs.items()},
            "launch": VERSION,
            "snp": [
                {
                    "guest_features": each.guest_features,
                    "measurement": each.measurement.hex(),
                    "signature": each.signature,
                    "types": list(each.types),
                    "vcpus": each.vcpus,
                }
                for each in self.snp
            ],
            "tdx": None
            if self.tdx is None
            else {
                "mrtd": {order.value: value.hex() for order, value in self.tdx.mrtd.items()},
                "rtmr": [_register_json(each) for each in self.tdx.registers],
            },
        }

    def encode(self) -> bytes:
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")

    def find_snp(self, signature: int, vcpus: int, guest_features: int) -> bytes | None:
        """The measurement for one way to start the machine, if it is among these."""
        return next(
            (
                each.measurement
                for each in self.snp
                if (each.signature, each.vcpus, each.guest_features) == (signature, vcpus, guest_features)
            ),
            None,
        )


def measure_snp(
    firmware: bytes,
    kernel: bytes,
    initrd: bytes,
    cmdline: str,
    *,
    counts: Sequence[int] = COUNTS,
    features: Sequence[int] = GUEST_FEATURES,
) -> LaunchManifest:
    """M17: every signature, these counts, these features. Raises `LaunchRefused` alone."""
    launch = SnpLaunch.of(Firmware.parse(firmware), KernelHashes.of(kernel, initrd, cmdline))
    found = tuple(
        SnpMeasurement(each.signature, each.types, vcpus, guest_features, measurement)
        for each in PROCESSORS
        for guest_features in features
        for vcpus, measurement in launch.digests(each.signature, guest_features, counts).items()
    )
    return LaunchManifest({"snp_firmware": _file(firmware), **_inputs(kernel, initrd, cmdline)}, found, None)


def measure_tdx(firmware: bytes, kernel: bytes, initrd: bytes, cmdline: str) -> LaunchManifest:
    """MRTD in both orders and the registers as far as they can be foreseen. Raises `LaunchRefused` alone."""
    parsed = Firmware.parse(firmware)
    measured = TdxMeasurement(
        {order: mrtd(parsed, order) for order in PageOrder}, predicted_registers(kernel, initrd, cmdline)
    )
    return LaunchManifest({"tdx_firmware": _file(firmware), **_inputs(kernel, initrd, cmdline)}, (), measured)


def joined(snp: LaunchManifest, tdx: LaunchManifest) -> LaunchManifest:
    """M18: one document for both kinds of machine, if kernel, initrd and command line are the same."""
    for name in sorted((snp.inputs.keys() | tdx.inputs.keys()) - {"snp_firmware", "tdx_firmware"}):
        if (one := snp.inputs.get(name)) != (other := tdx.inputs.get(name)):
            raise LaunchRefused(
                f"manifest.{name}",
                expected="one file for both kinds of machine",
                got=" and ".join("none" if each is None else shown(each) for each in (one, other)),
            )
    return LaunchManifest({**snp.inputs, **tdx.inputs}, snp.snp, tdx.tdx)


# -- making


def _file(content: bytes) -> Input:
    return Input(hashlib.sha256(content).digest(), len(content))


def _inputs(kernel: bytes, initrd: bytes, cmdline: str) -> dict[str, Input]:
    line = cmdline_bytes(cmdline).removesuffix(b"\0")
    text = Input(hashlib.sha256(line).digest(), len(line), cmdline)
    return {"kernel": _file(kernel), "cmdline": text} | ({"initrd": _file(initrd)} if initrd else {})


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


def _fields(what: str, value: object, *names: str) -> Fields:
    """An object of the manifest that has these members; each of them is named by itself: `manifest.vcpus`."""
    if not isinstance(value, dict):
        raise LaunchRefused(f"manifest.{what}", expected=f"an object of {', '.join(names)}", got=shown(value))
    fields = Fields(value, "manifest", LaunchRefused, _ASCII)
    fields.only(*names, code=f"manifest.{what}")
    return fields


def _input(name: str, value: object) -> Input:
    fields = _fields(f"inputs.{name}", value, "bytes", "sha256", *(("text",) if name == "cmdline" else ()))
    digest, size = fields.digest("sha256"), fields.uint("bytes", 1 << 40)
    if name != "cmdline":
        return Input(digest, size)
    text = fields.text("text", _TEXT_MAX, empty=True)
    line = cmdline_bytes(text).removesuffix(b"\0")
    if (stated := (hashlib.sha256(line).digest(), len(line))) != (digest, size):
        expected = f"{stated[1]} bytes with the digest {stated[0].hex()}"
        raise LaunchRefused("manifest.inputs.cmdline", expected=expected, got=f"{size} bytes with {digest.hex()}")
    return Input(digest, size, text)


def _snp(value: object) -> SnpMeasurement:
    fields = _fields("snp", value, "guest_features", "measurement", "signature", "types", "vcpus")
    types = fields.texts("types", 64, _TEXT_MAX)
    if list(types) != sorted(set(types)):
        raise fields.refused("types", "names, sorted, each once", ", ".join(types))
    return SnpMeasurement(
        fields.uint("signature", (1 << 32) - 1),
        types,
        fields.uint("vcpus", VCPUS_MAX, 1),
        fields.uint("guest_features", (1 << 53) - 1, 1),
        fields.digest("measurement", DIGEST_BYTES),
    )


def _distinct(found: tuple[SnpMeasurement, ...]) -> tuple[SnpMeasurement, ...]:
    """M20: one measurement for one way to start, in one order."""
    ways = [(each.signature, each.guest_features, each.vcpus) for each in found]
    for one, following in pairwise(ways):
        if one >= following:
            expected = "by signature, features and number, each once"
            raise LaunchRefused("manifest.snp", expected=expected, got=f"{following} behind {one}")
    return found


def _tdx(value: object) -> TdxMeasurement:
    fields = _fields("tdx", value, "mrtd", "rtmr")
    orders = fields.fields("mrtd")
    orders.only(*(order.value for order in PageOrder))
    registers = tuple(map(_register, fields.items("rtmr", REGISTERS, REGISTERS)))
    return TdxMeasurement({order: orders.digest(order.value, DIGEST_BYTES) for order in PageOrder}, registers)


def _register(value: object) -> Register:
    by = value.get("by") if isinstance(value, dict) else None
    predicted = by == JudgedBy.PREDICTION.value
    fields = _fields("rtmr", value, "about", "by", *(("events", "value") if predicted else ()))
    about = fields.text("about", _TEXT_MAX, empty=True)
    if not predicted:
        if by != JudgedBy.EVENT_LOG.value:
            raise LaunchRefused("manifest.rtmr", expected="prediction or event-log", got=shown(by))
        return Register(JudgedBy.EVENT_LOG, about)
    register = Register(JudgedBy.PREDICTION, about, tuple(map(_event, fields.items("events", 256))))
    if (stated := fields.digest("value", DIGEST_BYTES)) != register.value:
        raise LaunchRefused("manifest.rtmr", expected="the value its events lead to", got=stated.hex())
    return register


def _event(value: object) -> PredictedEvent:
    fields = _fields("event", value, "digest", "kind", "what")
    return PredictedEvent(
        fields.uint("kind", (1 << 32) - 1),
        fields.digest("digest", DIGEST_BYTES),
        fields.text("what", _TEXT_MAX, empty=True),
    )
