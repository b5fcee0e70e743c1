"""The manifest: one encoding, and nothing in it that its own parts contradict (measure.md M17 to M21)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from foundation.document import Fields
from measurements.launch.errors import LaunchRefused
from measurements.launch.launch_manifest import COUNTS, GUEST_FEATURES, LaunchManifest, joined, measure_snp, measure_tdx
from measurements.launch.published import launch_part
from measurements.launch.snp import PROCESSORS, signature_of
from measurements.release.errors import ReleaseDocumentRefused
from measurements.release.manifest import _launch
from tests.firmware import LittleFirmware, LittleProgram

FILES = (LittleProgram().build(), b"initrd", "console=ttyS0")
SNP = measure_snp(LittleFirmware().build(), *FILES)
TDX = measure_tdx(LittleFirmware().build(), *FILES)
BOTH = joined(SNP, TDX)


def encoded(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize("manifest", [SNP, TDX, BOTH], ids=["snp", "tdx", "both"])
def test_what_is_written_is_read_again(manifest: LaunchManifest) -> None:
    assert LaunchManifest.parse(manifest.encode()) == manifest
    assert LaunchManifest.from_json(json.loads(manifest.encode())) == manifest


def test_every_way_to_start_is_in_it() -> None:
    assert len(SNP.snp) == len(PROCESSORS) * len(COUNTS) * len(GUEST_FEATURES)
    assert len({each.measurement for each in SNP.snp}) == len(SNP.snp)
    assert SNP.find_snp(signature_of("EPYC-v4"), 4, 1) is not None
    assert SNP.find_snp(signature_of("EPYC-v4"), 3, 1) is None


def test_it_names_its_files() -> None:
    assert BOTH.inputs.keys() == {"snp_firmware", "tdx_firmware", "kernel", "initrd", "cmdline"}
    assert BOTH.inputs["cmdline"].text == FILES[2]
    assert BOTH.inputs["kernel"].size == len(FILES[0])


def test_two_images_are_not_one() -> None:
    with pytest.raises(LaunchRefused, match=r"manifest\.initrd"):
        joined(SNP, measure_tdx(LittleFirmware().build(), FILES[0], b"another", FILES[2]))


@pytest.mark.parametrize(
    "other",
    [
        lambda raw: raw + b"\n",
        lambda raw: b" " + raw,
        lambda raw: raw.replace(b":", b": ", 1),
        lambda raw: raw.replace(b'"launch":1', b'"launch":1,"launch":1'),
        lambda raw: raw.replace(b'"launch":1', b'"launch":1.0'),
        lambda raw: raw.replace(b'"launch":1', b'"launch":true'),
        lambda raw: raw.replace(b'"launch":1', b'"launch":2'),
        lambda raw: raw.replace(b"ttyS0", b"ttyS1"),
        lambda raw: raw.replace(b'"kind":4,', b'"kind":04,'),
        lambda raw: raw[:-1],
        lambda raw: raw.replace(b"EPYC", b"\xc3\xa9PYC"),
        lambda raw: b"[" * (5000 + len(raw)),
    ],
    ids=["line", "space", "colon", "twice", "float", "bool", "version", "text", "zero", "cut", "utf8", "deep"],
)
def test_other_bytes_are_refused(other: Callable[[bytes], bytes]) -> None:
    raw = BOTH.encode()
    assert other(raw) != raw
    with pytest.raises(LaunchRefused):
        LaunchManifest.parse(other(raw))


def _set(*path: str | int, to: object) -> Callable[[Any], None]:
    def change(value: Any) -> None:
        *way, last = path
        for step in way:
            value = value[step]
        value[last] = to

    return change


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_set("more", to=1), "manifest.manifest"),
        (_set("inputs", to={}), "manifest.inputs"),
        (_set("inputs", "other", to={}), "manifest.inputs"),
        (_set("inputs", "kernel", "sha256", to="AB" * 32), "manifest.sha256"),
        (_set("inputs", "kernel", "bytes", to=-1), "manifest.bytes"),
        (_set("inputs", "cmdline", "bytes", to=3), "manifest.inputs.cmdline"),
        (_set("snp", to={}), "manifest.snp"),
        (_set("snp", 0, "vcpus", to=0), "manifest.vcpus"),
        (_set("snp", 0, "vcpus", to=True), "manifest.vcpus"),
        (_set("snp", 0, "vcpus", to=2), "manifest.snp"),
        (_set("snp", 0, "types", to=["b", "a"]), "manifest.types"),
        (_set("snp", 0, "measurement", to="00"), "manifest.measurement"),
        (_set("snp", 0, "guest_features", to=0), "manifest.guest_features"),
        (_set("tdx", "mrtd", to={"interleaved": "00" * 48}), "manifest.mrtd"),
        (_set("tdx", "rtmr", to=[]), "manifest.rtmr"),
        (_set("tdx", "rtmr", 0, "by", to="hope"), "manifest.rtmr"),
        (_set("tdx", "rtmr", 0, "value", to="00" * 48), "manifest.rtmr"),
        (_set("tdx", "rtmr", 1, "value", to="00" * 48), "manifest.rtmr"),
        (_set("tdx", "rtmr", 1, "events", 0, "kind", to="x"), "manifest.kind"),
        (_set("tdx", "rtmr", 1, "events", to=7), "manifest.events"),
    ],
)
def test_a_part_that_breaks_a_rule_is_named(change: Callable[[Any], None], code: str) -> None:
    value = json.loads(BOTH.encode())
    change(value)
    with pytest.raises(LaunchRefused) as caught:
        LaunchManifest.parse(encoded(value))
    assert caught.value.code == code


def test_entries_have_one_order() -> None:
    value = json.loads(SNP.encode())
    value["snp"].reverse()
    with pytest.raises(LaunchRefused, match=r"manifest\.snp"):
        LaunchManifest.parse(encoded(value))


def test_the_part_for_a_release_manifest_is_cut_from_it() -> None:
    part = launch_part(BOTH, vcpu_types=["EPYC-v4", "EPYC-Genoa"], counts=[4, 1], guest_features=[1])
    assert part["command_line"] == FILES[2]
    snp, tdx = part["snp"], part["tdx"]
    assert isinstance(snp, list)
    assert isinstance(tdx, list)
    assert [(row["cpu"], row["vcpus"]) for row in snp] == [
        ("EPYC-Genoa", 1),
        ("EPYC-Genoa", 4),
        ("EPYC-v4", 1),
        ("EPYC-v4", 4),
    ]
    expected = BOTH.find_snp(signature_of("EPYC-v4"), 4, 1)
    assert expected is not None
    assert snp[-1]["measurement"] == expected.hex()
    assert [(row["machine"], row["vcpus"]) for row in tdx] == sorted((row["machine"], row["vcpus"]) for row in tdx)
    read = _launch(Fields(part, "launch", ReleaseDocumentRefused))  # as a release manifest reads it
    assert [each.measurement.hex() for each in read.snp] == [row["measurement"] for row in snp]
    assert all(row["rtmr"][0] is None and row["rtmr"][3] == "00" * 48 for row in tdx)


def test_a_part_of_one_kind_and_of_what_is_not_there() -> None:
    assert launch_part(SNP, vcpu_types=["EPYC"], counts=[1], guest_features=[1])["tdx"] == []
    assert launch_part(TDX, vcpu_types=[], counts=[1], guest_features=[1])["snp"] == []
    with pytest.raises(LaunchRefused, match=r"manifest\.snp"):
        launch_part(SNP, vcpu_types=["EPYC"], counts=[3], guest_features=[1])
