"""audit.md: a sound bundle holds, and whatever is done to one shows, at the stage where it was done."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.config import config_digest
from attestation.auditor.audit_bundle import (
    AnswersPart,
    AskedPart,
    AuditBundle,
    CellParts,
    LogPart,
    Part,
    ReceiptsPart,
    ReleasePart,
    audit_nonce,
)
from attestation.auditor.bundle_builder import assemble
from attestation.auditor.errors import AuditRefused
from attestation.auditor.findings import FindingStanding, Stage, Status
from attestation.auditor.measured import CONFIG_TAG, Measured
from attestation.auditor.terms import AuditTerms
from attestation.evidence.evidence_bundle import EvidenceBundle
from attestation.policy import document
from attestation.receipts.price import PriceSchedule
from devnet.chain import Chain
from devnet.subnet import GATEWAY, Subnet
from foundation import cbor
from foundation.digests import tagged_sha256
from tests.little_audit import NOW_NS, PROMPT, SUBNET, WORDS, LittleCellHost, evidence_of, terms, world
from tests.little_receipts import book
from tests.switches import EVERY_BYTE, flag
from tests.unit.attestation.auditor.audited_bundles import BUNDLE, GOOD, first, judged, one_cell

HEAD_BYTES = GOOD.index(BUNDLE.config)
OF_PART = {
    Part.CONFIG: Stage.CONFIG,
    Part.ORDER: Stage.ORDER,
    Part.ASKED: Stage.ORDER,
    Part.ANSWERS: Stage.ANSWERS,
    Part.EVIDENCE: Stage.EVIDENCE,
    Part.RELEASE: Stage.RELEASE,
    Part.RECEIPTS: Stage.RECEIPTS,
    Part.LOG: Stage.LOG,
}
PARTS = [
    *(Part.CONFIG, Part.ORDER, Part.ASKED, Part.ANSWERS),
    *(Part.EVIDENCE, Part.RELEASE, Part.RECEIPTS, Part.LOG) * 2,
]


def test_a_sound_bundle_holds() -> None:  # audit.md U1, U4
    report = judged(GOOD)
    assert report.ok
    assert report.status is Status.OK
    assert {finding.stage for finding in report.findings} == set(Stage) - {Stage.REPLAY}
    assert all(finding.got for finding in report.findings if finding.standing is FindingStanding.UNCHECKED)
    assert len(report.appraisals) == 2


def test_it_reads_back_byte_for_byte() -> None:  # audit.md U1
    assert BUNDLE.encode() == GOOD
    assert BUNDLE.damaged == frozenset()
    for kind, part in (
        (AskedPart, BUNDLE.asked),
        (AnswersPart, BUNDLE.answers),
        (ReleasePart, BUNDLE.cells[0].release),
        (ReceiptsPart, BUNDLE.cells[0].receipts),
        (LogPart, BUNDLE.cells[0].log),
    ):
        assert kind.parse(part).encode() == part


# -- every byte


def part_at(place: int) -> Part | None:
    """Which part a byte of the file belongs to; None for what is around the parts."""
    at = HEAD_BYTES
    raws = [BUNDLE.config, BUNDLE.order, BUNDLE.asked, BUNDLE.answers, *(p for c in BUNDLE.cells for p in c.all)]
    for part, content in zip(PARTS, raws, strict=True):
        if at <= place < at + len(content):
            return part
        at += len(content)
        following = raws.index(content) + 1
        if following < len(raws):
            at += len(cbor.head(0x40, len(raws[following])))
    return None


STRIDE = 1 if flag(EVERY_BYTE) else 499


@settings(max_examples=120, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_every_changed_byte_is_found_where_it_is(place: int, change: int) -> None:  # audit.md U2, U3
    check_changed(place, change)


def test_the_same_from_one_end_to_the_other() -> None:  # audit.md U2, U3
    """Every byte if ANCHORHOLD_EVERY_BYTE is set: twenty minutes or so."""
    for place in range(0, len(GOOD), STRIDE):
        check_changed(place, 1 << place % 8)


def check_changed(place: int, change: int) -> None:
    bent = bytearray(GOOD)
    bent[place] ^= change
    finding = first(judged(bytes(bent)))
    part = part_at(place)
    if part is not None:
        assert finding.stage is OF_PART[part]
        assert finding.code.endswith("whole")
    elif finding.stage is not Stage.FORM:  # the byte is one of a digest: its part is then called damaged
        assert finding.code.endswith("whole")


def claimed(raw_evidence: bytes) -> EvidenceBundle:
    """An evidence bundle without the certificates that come with it."""
    return replace(EvidenceBundle.parse(raw_evidence), certificates={}, crls=())


@settings(max_examples=120, deadline=None)
@given(st.integers(0, len(PARTS) - 1), st.data())
def test_whoever_also_bends_the_digest_is_found_by_what_it_means(number: int, data: st.DataObject) -> None:
    # audit.md U3: the digests make every bit matter, and make nothing true
    raws = [BUNDLE.config, BUNDLE.order, BUNDLE.asked, BUNDLE.answers, *(p for c in BUNDLE.cells for p in c.all)]
    bent = bytearray(raws[number])
    bent[data.draw(st.integers(0, len(bent) - 1))] ^= data.draw(st.integers(1, 255))
    raws[number] = bytes(bent)
    cells = tuple(CellParts(*raws[at : at + 4]) for at in range(4, len(raws), 4))
    report = judged(AuditBundle(raws[0], raws[1], raws[2], raws[3], cells))
    if report.ok:  # what no signature covers of others' certificates may be spelt otherwise, and says nothing
        assert PARTS[number] is Part.EVIDENCE
        assert claimed(bytes(bent)) == claimed(BUNDLE.cells[(number - 4) // 4].evidence)
        return
    finding = first(report)
    expected = {OF_PART[PARTS[number]]}
    if PARTS[number] is Part.CONFIG:  # another file that reads as one is not the one in the evidence
        expected |= {Stage.EVIDENCE, Stage.ORDER}
    if PARTS[number] is Part.EVIDENCE:  # a list or certificate that is missing may be the policy's to refuse
        expected |= {Stage.POLICY}
    assert finding.stage in expected, finding


@settings(max_examples=30, deadline=None)
@given(st.integers(0, len(GOOD)), st.binary(min_size=1, max_size=4))
def test_what_is_cut_or_added_is_found(place: int, more: bytes) -> None:  # audit.md U1
    assert first(judged(GOOD[:place] + more + GOOD[place:])).status is not Status.OK
    if place < len(GOOD):
        assert first(judged(GOOD[:place])).stage is Stage.FORM


@pytest.mark.parametrize(
    "other",
    [
        b"",
        b"\x80",
        cbor.encode(["anchorhold/audit/v2", [], []]),
        cbor.encode(["anchorhold/audit/v1", [], []]),
        cbor.encode(["anchorhold/audit/v1", [b""] * 8, [b""] * 8]),
        cbor.encode(["anchorhold/audit/v1", [], [b""] * 8]),
        cbor.encode(["anchorhold/audit/v1", [bytes(32)] * 9, [b""] * 9]),
        cbor.encode([1, 2, 3]),
        cbor.encode(["anchorhold/audit/v1", [bytes(32)] * 8, [1] * 8]),
    ],
)
def test_other_bytes_are_no_bundle(other: bytes) -> None:  # audit.md U1
    report = judged(other)
    assert (first(report).stage, report.status) == (Stage.FORM, Status.MALFORMED)
    assert {f.stage for f in report.findings if f.standing is FindingStanding.NOT_REACHED} == set(Stage) - {
        Stage.FORM,
        Stage.REPLAY,
    }


# -- whom to believe


def test_the_default_believes_no_simulated_root_and_no_devnet() -> None:  # audit.md U6, U14
    report = judged(GOOD, AuditTerms(policy=document.builtin("strict")))
    assert report.status is Status.CHAIN
    assert first(report).code == "configuration.subnet"
    at_home = judged(GOOD, AuditTerms(policy=document.builtin("strict"), root_key=SUBNET.root_key))
    assert (first(at_home).code, at_home.status) == ("evidence.genuine", Status.CHAIN)


def test_a_strict_policy_refuses_the_simulated_root_even_where_its_chain_is_believed() -> None:  # audit.md U14
    report = judged(GOOD, terms(policy=document.builtin("strict")))
    assert (first(report).code, report.status) == ("policy.claims", Status.POLICY)
    assert "snp.root" in first(report).got


def test_another_gateway_is_not_the_one_that_was_asked_about() -> None:  # audit.md U6
    assert first(judged(GOOD, terms(gateway=b"\x01"))).code == "configuration.gateway"
    unnamed = judged(GOOD, terms(gateway=None))
    assert unnamed.ok
    assert [f.code for f in unnamed.of(Stage.CONFIG) if f.standing is FindingStanding.UNCHECKED] == [
        "configuration.gateway"
    ]


def test_old_evidence_is_the_policy_s_to_refuse_unless_a_nonce_of_yours_is_in_it() -> None:  # audit.md U12
    measured = world().config
    evidence = {"cell a": evidence_of("cell a", measured, b"\x42" * 32)}
    bundle = one_cell(world().cells[0], evidence=evidence)
    assert (first(judged(bundle)).code, judged(bundle).status) == ("policy.claims", Status.POLICY)
    assert judged(bundle, terms(nonces=(b"\x42" * 32,))).ok


def test_evidence_is_younger_than_the_block_in_its_nonce() -> None:  # audit.md U12
    fresh = next(f for f in judged(GOOD).findings if f.code == "policy.fresh")
    assert "height 1" in fresh.got
    assert audit_nonce(b"one") != audit_nonce(b"two")


def test_collateral_that_is_out_of_date_has_its_own_status() -> None:  # audit.md U14
    report = judged(GOOD, terms(at=datetime(2040, 1, 1, tzinfo=UTC)))
    assert report.status is Status.COLLATERAL


def test_the_same_cell_twice_is_not_two_cells() -> None:  # audit.md U13
    bundle = replace(BUNDLE, cells=(BUNDLE.cells[0], BUNDLE.cells[0]))
    assert first(judged(bundle)).code == "evidence.once"


def test_another_cell_s_evidence_does_not_speak_for_these_receipts() -> None:  # audit.md U13
    bundle = replace(BUNDLE, cells=(replace(BUNDLE.cells[0], evidence=BUNDLE.cells[1].evidence),))
    assert first(judged(bundle)).stage is Stage.RELEASE


# -- order


def test_an_order_that_another_subnet_certified_is_none() -> None:  # audit.md U7
    forger = Subnet(b"another root", delegated=False)
    of = Chain(forger, GATEWAY, seed=b"audited", blocks=world().chain.blocks)
    assert first(judged(replace(BUNDLE, order=of.proof(1, 3, NOW_NS)))).code == "order.certificate"
    assert first(judged(replace(BUNDLE, order=world().chain.proof(1, 2, NOW_NS)))).code == "order.requests"


def test_other_requests_are_not_the_ones_that_were_ordered() -> None:  # audit.md U8
    blocks = AskedPart.parse(BUNDLE.asked).blocks
    for bent in (
        blocks[:-1],
        (*blocks, blocks[-1]),
        (blocks[0][:-1], *blocks[1:]),
        (blocks[0][::-1], *blocks[1:]),
        ((bytes(32), *blocks[0][1:]), *blocks[1:]),
    ):
        assert first(judged(replace(BUNDLE, asked=AskedPart(bent).encode()))).code == "order.requests"


def test_an_audit_asks_no_network_and_no_clock(monkeypatch: pytest.MonkeyPatch) -> None:  # audit.md U11
    import builtins
    import socket
    import time

    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError("an audit looked outside")

    for owner, name in ((socket, "socket"), (time, "time"), (time, "time_ns"), (builtins, "open")):
        monkeypatch.setattr(owner, name, refuse)
    assert judged(GOOD).ok


# -- making


def test_prompts_and_answers_in_clear_are_in_a_bundle_only_if_asked_for() -> None:  # audit.md U10, U30
    assert PROMPT in GOOD
    assert WORDS in GOOD
    closed = world().bundle(show_plain=False, answers=False).encode()
    assert PROMPT not in closed
    assert WORDS not in closed
    assert judged(closed).ok


def test_what_cannot_be_put_together_is_refused() -> None:  # audit.md U9
    of = world()
    bare = LittleCellHost("cell a", book("cell a"))
    short = LittleCellHost("cell a", book("cell a"), of.cells[0].signed, of.cells[0].notes[:1])
    for cell in (bare, short):
        with pytest.raises(AuditRefused):
            assemble(
                config=of.config,
                proof=of.chain.proof(1, 3, NOW_NS),
                bodies=[of.chain.body(height) for height in (1, 2, 3)],
                cells=[of.source(cell)],
            )


# -- the measured configuration


def test_the_digest_is_the_one_that_a_cell_computes() -> None:  # audit.md U5
    measured = Measured.parse(world().config)
    assert measured.digest == config_digest(world().config) == tagged_sha256(CONFIG_TAG, world().config)
    assert measured.price == PriceSchedule(1_000_000, 2_000, 10_000)


@pytest.mark.parametrize(
    "other",
    [
        b"",
        b"\xff",
        b"gateway = 1",
        b'gateway = "x"',
        world().config.replace(b"[price]", b"[[price]]"),
        world().config.replace(b"token_in = 2000", b"token_in = -1"),
        world().config.replace(b"[release]", b"release = 1\n"),
        world().config.replace(b'root_key = "', b'root_key = "zz'),
        b"x" * 70_000,
        world().config.replace(b'model_root = "30', b'model_root = "'),
    ],
)
def test_what_is_no_configuration(other: bytes) -> None:  # audit.md U5
    with pytest.raises(AuditRefused):
        Measured.parse(other)
    assert first(judged(replace(BUNDLE, config=other))).code == "configuration.read"
