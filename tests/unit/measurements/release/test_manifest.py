"""The release manifest: one spelling, every field strict, and what changes said in words. governance.md V1, V2."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from measurements.launch.measurement import SnpLaunchDigest
from measurements.release.changes import changes, facts
from measurements.release.document import render
from measurements.release.errors import ReleaseDocumentRefused
from measurements.release.heights import Heights
from measurements.release.manifest import EngineProfile, Manifest, MinimumTcb, SnpLaunch, launch_document, parse_launch
from tests.releases import digest, made_manifest, measurement

FIRST = made_manifest()
SECOND = made_manifest("0.2.0", FIRST)
RAW = SECOND.encode()


def bent(change: Any) -> bytes:
    value = json.loads(RAW)
    change(value)
    return render(value)


def test_a_manifest_reads_back_as_it_was_written() -> None:
    assert Manifest.parse(RAW) == SECOND
    assert Manifest.parse(FIRST.encode()) == FIRST
    assert parse_launch(render(launch_document(SECOND.launch))) == SECOND.launch


def test_its_digest_is_over_its_canonical_bytes() -> None:
    assert SECOND.digest != FIRST.digest
    assert Manifest.parse(RAW).digest == SECOND.digest


def test_tdx_launches_whose_registers_are_not_all_stated_give_no_measurement() -> None:
    [launch] = SECOND.launch.tdx
    partial = replace(launch, rtmr=(None, *launch.rtmr[1:]))
    manifest = replace(SECOND, launch=replace(SECOND.launch, tdx=(partial,)))
    assert Manifest.parse(manifest.encode()) == manifest
    assert manifest.launch_measurements() == tuple(each.measurement for each in SECOND.launch.snp)


REFUSED = {
    "another schema": (lambda v: v.update(schema="anchorhold/release/v1"), "manifest.schema"),
    "no blocks": (lambda v: v.pop("serves"), "manifest.serves"),
    "a block before the first there is": (lambda v: v["serves"].update(first=0), "manifest.serves.first"),
    "an end before the beginning": (lambda v: v["serves"].update(last=500), "manifest.serves.last"),
    "an end that is no number": (lambda v: v["serves"].update(last="600"), "manifest.serves.last"),
    "a block beyond every height": (lambda v: v["serves"].update(last=1 << 63), "manifest.serves.last"),
    "no lease": (lambda v: v["serves"].update(lease=0), "manifest.serves.lease"),
    "a lease without an end": (lambda v: v["serves"].update(lease=1_000_001), "manifest.serves.lease"),
    "a field more": (lambda v: v.update(signed_off=1), "manifest.signed_off"),
    "a field less": (lambda v: v.pop("price"), "manifest.price"),
    "a version with a word": (lambda v: v.update(version="0.2.0-rc1"), "manifest.version"),
    "a version with a leading zero": (lambda v: v.update(version="0.02.0"), "manifest.version"),
    "supersedes itself": (lambda v: v["supersedes"].update(version="0.2.0"), "manifest.supersedes"),
    "another image digest": (lambda v: v["image"].update(digest="00" * 32), "manifest.image.digest"),
    "upper-case digests": (lambda v: v.update(measured_config="AB" * 32), "manifest.measured_config"),
    "a short digest": (lambda v: v.update(measured_config="ab" * 31), "manifest.measured_config"),
    "no launch at all": (lambda v: v["launch"].update(snp=[], tdx=[]), "launch"),
    "launches out of order": (lambda v: v["launch"]["snp"].reverse(), "launch.snp"),
    "a launch twice": (lambda v: v["launch"]["snp"].insert(0, v["launch"]["snp"][0]), "launch.snp"),
    "one measurement for two launches": (
        lambda v: v["launch"]["snp"][0].update(measurement=v["launch"]["snp"][1]["measurement"]),
        "manifest.launch",
    ),
    "a float": (lambda v: v["price"].update(request=1.5), "manifest.json"),
    "a boolean": (lambda v: v["price"].update(request=True), "manifest.price.request"),
    "a negative price": (lambda v: v["price"].update(request=-1), "manifest.price.request"),
    "no floor for SNP": (lambda v: v["minimum_tcb"].update(snp={}), "manifest.minimum_tcb.snp"),
    "no floor for TDX": (lambda v: v["minimum_tcb"].update(tdx=[]), "manifest.minimum_tcb.tdx"),
    "an unknown processor": (lambda v: v["minimum_tcb"].update(snp={"Naples *": {}}), "manifest.minimum_tcb.snp"),
    "a repository that is no URL": (lambda v: v["rebuild"].update(repository="git@x"), "manifest.rebuild.repository"),
    "a command with a line break": (lambda v: v["rebuild"].update(commands=["a\nb"]), "manifest.rebuild.commands"),
    "no way to rebuild": (lambda v: v["rebuild"].update(commands=[]), "manifest.rebuild.commands"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_refused_by_the_name_of_its_field(name: str) -> None:
    change, code = REFUSED[name]
    with pytest.raises(ReleaseDocumentRefused) as caught:
        Manifest.parse(bent(change))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (RAW[:-1], "manifest.form"),
        (RAW + b" ", "manifest.form"),
        (b"", "manifest.json"),
        (b"[]", "manifest"),
        (RAW.replace(b'"version"', b'"version": "0.2.0", "version"', 1), "manifest.json"),
        (json.dumps(json.loads(RAW)).encode(), "manifest.form"),
        (b"[" * 100_000, "manifest.size"),
        (b"[" * 1000, "manifest.json"),
        (b'{"a": ' + b"9" * 5000 + b"}", "manifest.json"),
        (b"\xff", "manifest.json"),
    ],
)
def test_another_spelling_is_another_document(raw: bytes, code: str) -> None:
    with pytest.raises(ReleaseDocumentRefused) as caught:
        Manifest.parse(raw)
    assert caught.value.code == code


@settings(deadline=None)
@given(st.integers(0, 8 * len(RAW) - 1))
def test_every_bit_counts(bit: int) -> None:
    """A bent manifest is none, or is another one: nothing changes without the digest."""
    raw = bytearray(RAW)
    raw[bit // 8] ^= 1 << bit % 8
    assert outcome(bytes(raw)) not in ("", SECOND.digest.hex())


def outcome(raw: bytes) -> str:
    """The digest, or the code of the refusal; any other exception fails the test."""
    try:
        return Manifest.parse(raw).digest.hex()
    except ReleaseDocumentRefused as refusal:
        return refusal.code


# -- in words


def test_facts_name_everything_that_could_be_compared() -> None:
    shown = " ".join(fact.value for fact in facts(SECOND))
    for expected in (
        SECOND.version,
        SECOND.digest.hex(),
        FIRST.digest.hex(),
        SECOND.image.digest.hex(),
        SECOND.measured_config.hex(),
        SECOND.model.root.hex(),
        SECOND.price.digest.hex(),
        SECOND.rebuild.commit,
        *(each.measurement.hex() for each in SECOND.launch.snp),
    ):
        assert expected in shown


def asked(after: Manifest) -> dict[str, str]:
    return {change.topic: change.asks for change in changes(SECOND, after)}


def test_nothing_changed_says_nothing() -> None:
    assert changes(SECOND, SECOND) == ()


def test_a_first_release_asks_for_everything() -> None:
    [change] = changes(None, FIRST)
    assert change.asks


def test_new_trust_is_asked_for_by_name() -> None:
    lower = MinimumTcb({"Genoa *": {"bootloader": 9, "tee": 0, "snp": 23, "microcode": 25}}, ("OutOfDate", "UpToDate"))
    after = replace(
        SECOND,
        minimum_tcb=lower,
        model=replace(SECOND.model, root=digest("other"), template=digest("t")),
        engine=EngineProfile("fixed-2", None),
        price=replace(SECOND.price, token_out=7_000),
        rebuild=replace(SECOND.rebuild, repository="https://example.invalid/fork.git"),
    )
    found = asked(after)
    assert "bootloader" in found["minimum TCB"]
    assert found["TCB statuses"]
    assert found["model"]
    assert found["chat template"]
    assert found["engine"]
    assert found["price"] == "a higher price"
    assert found["source"]


def test_less_is_said_and_asks_for_nothing() -> None:
    higher = MinimumTcb({"Genoa *": {"bootloader": 11, "tee": 0, "snp": 23, "microcode": 25}}, ("UpToDate",))
    after = replace(SECOND, minimum_tcb=higher, price=replace(SECOND.price, token_out=5_000))
    assert asked(after) == {"minimum TCB": "", "price": ""}


def test_which_blocks_change_hands_is_said() -> None:
    found = {change.topic: change.words for change in changes(FIRST, SECOND)}
    assert found["blocks"] == "0.2.0 answers from 501 on; 0.1.0 ends with block 500"
    ended = replace(FIRST, serves=replace(FIRST.serves, heights=Heights(1, 400)))
    words = [change.words for change in changes(ended, SECOND) if change.topic == "blocks"]
    assert words == ["0.2.0 answers from 501 on; 0.1.0 has ended with block 400", "nobody answers blocks 401 to 500"]
    longer = replace(SECOND, serves=replace(SECOND.serves, lease=200))
    assert asked(longer) == {"lease": "that a withdrawn cell may go on for so long"}


def test_another_kind_of_machine_is_new_trust_and_another_size_is_not() -> None:
    four = SnpLaunch("EPYC-v4", 4, 1, SnpLaunchDigest(measurement("four")))
    wider = replace(SECOND.launch, snp=(*SECOND.launch.snp, four))
    assert asked(replace(SECOND, launch=wider))["SNP launch"] == ""
    only_tdx = replace(SECOND, launch=replace(SECOND.launch, snp=()))
    [first] = [change for change in changes(only_tdx, SECOND) if change.topic == "SNP launch"][:1]
    assert first.asks
