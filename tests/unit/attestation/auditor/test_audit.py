"""audit.md: a sound bundle holds, and whatever is done to one shows, at the stage where it was done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.config import config_digest
from appliance.ordering.sequencer import OrderedRequest
from appliance.serving.receipts import Conclusion, ReceiptBook
from attestation.auditor.audit import audit
from attestation.auditor.audit_bundle import (
    Answer,
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
from attestation.auditor.comparison import Output, compare
from attestation.auditor.decision_history import HistoryReader
from attestation.auditor.errors import AuditRefused
from attestation.auditor.findings import Finding, Report, Stage, Standing, Status
from attestation.auditor.measured import CONFIG_TAG, Measured
from attestation.auditor.terms import Decided, Terms
from attestation.broker.log import Entry, sign
from attestation.evidence.evidence_bundle import EvidenceBundle
from attestation.policy import document
from attestation.receipts.fork import Fork
from attestation.receipts.outcome import Opening
from attestation.receipts.price import PriceSchedule
from devnet.chain import Chain
from devnet.subnet import GATEWAY, Subnet
from foundation import cbor
from foundation.digests import tagged_sha256
from measurements.governance.actions import Adopt
from measurements.governance.authority import authority_digest
from measurements.governance.history import History
from measurements.governance.history import Ledger as Charters
from measurements.release.heights import Heights
from measurements.release.manifest import Manifest
from tests.charters import AUTHORITY, advance, decide
from tests.little_audit import (
    NOW_NS,
    PRICE,
    PROMPT,
    SUBNET,
    WORDS,
    LittleCellHost,
    broker,
    conclusion,
    config,
    evidence_of,
    good,
    granted,
    ordered,
    run_cell,
    served_by,
    terms,
    world,
)
from tests.little_broker import MODEL_ROOT
from tests.little_receipts import book, raw, receipt_key
from tests.little_tee import snp_tee
from tests.releases import made_manifest
from tests.switches import EVERY_BYTE, flag

GOOD = good()
BUNDLE = AuditBundle.parse(GOOD)
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


def judged(bundle: AuditBundle | bytes, of: Terms | None = None) -> Report:
    return audit(bundle if isinstance(bundle, bytes) else bundle.encode(), of or terms())


def first(report: Report) -> Finding:
    assert not report.ok
    return report.failed[0]


def with_cell(bundle: AuditBundle, **parts: bytes) -> AuditBundle:
    """`bundle` with other parts of its first cell."""
    return replace(bundle, cells=(replace(bundle.cells[0], **parts), *bundle.cells[1:]))


def one_cell(cell: LittleCellHost, **changes: object) -> AuditBundle:
    """A bundle of one cell that was run otherwise than the world's."""
    of = replace(world(), cells=(cell,), **changes)  # type: ignore[arg-type]
    return of.bundle()


def test_a_sound_bundle_holds() -> None:  # audit.md U1, U4
    report = judged(GOOD)
    assert report.ok
    assert report.status is Status.OK
    assert {finding.stage for finding in report.findings} == set(Stage) - {Stage.REPLAY}
    assert all(finding.got for finding in report.findings if finding.standing is Standing.UNCHECKED)
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
    assert {f.stage for f in report.findings if f.standing is Standing.NOT_REACHED} == set(Stage) - {
        Stage.FORM,
        Stage.REPLAY,
    }


# -- whom to believe


def test_the_default_believes_no_simulated_root_and_no_devnet() -> None:  # audit.md U6, U14
    report = judged(GOOD, Terms(policy=document.builtin("strict")))
    assert report.status is Status.CHAIN
    assert first(report).code == "configuration.subnet"
    at_home = judged(GOOD, Terms(policy=document.builtin("strict"), root_key=SUBNET.root_key))
    assert (first(at_home).code, at_home.status) == ("evidence.genuine", Status.CHAIN)


def test_a_strict_policy_refuses_the_simulated_root_even_where_its_chain_is_believed() -> None:  # audit.md U14
    report = judged(GOOD, terms(policy=document.builtin("strict")))
    assert (first(report).code, report.status) == ("policy.claims", Status.POLICY)
    assert "snp.root" in first(report).got


def test_another_gateway_is_not_the_one_that_was_asked_about() -> None:  # audit.md U6
    assert first(judged(GOOD, terms(gateway=b"\x01"))).code == "configuration.gateway"
    unnamed = judged(GOOD, terms(gateway=None))
    assert unnamed.ok
    assert [f.code for f in unnamed.of(Stage.CONFIG) if f.standing is Standing.UNCHECKED] == ["configuration.gateway"]


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


# -- release


def test_a_grant_to_another_cell_is_no_grant_to_this_one() -> None:  # audit.md U15
    bundle = with_cell(BUNDLE, release=BUNDLE.cells[1].release)
    assert first(judged(bundle)).code == "release.granted"


def test_without_its_approval_the_release_is_said_to_be_unshown() -> None:  # audit.md U16
    _, grant = ReleasePart.parse(BUNDLE.cells[0].release).entries
    report = judged(with_cell(BUNDLE, release=ReleasePart((grant,)).encode()))
    assert report.ok
    assert "release.approved" in [f.code for f in report.findings if f.standing is Standing.UNCHECKED]


@pytest.mark.parametrize("which", ["reversed", "doubled", "foreign"])
def test_entries_are_the_broker_s_in_the_order_of_its_log(which: str) -> None:  # audit.md U15
    added, grant = ReleasePart.parse(BUNDLE.cells[0].release).entries
    with broker().store.change() as change:
        foreign = next(iter(change.entries()))
    entries = {"reversed": (grant, added), "doubled": (added, added, grant), "foreign": (foreign, grant)}[which]
    assert first(judged(with_cell(BUNDLE, release=ReleasePart(entries).encode()))).code == "release.logged"


MANIFEST = {"snp": [snp_tee().fields.measurement], "model_root": MODEL_ROOT}


def manifests(measured: bytes, first: int = 2, **changes: object) -> tuple[Manifest, Manifest]:
    """Another release for block 1, and then one with this configuration."""
    before = made_manifest()
    return before, made_manifest("0.2.0", before, measured_config=measured, first=first, **(MANIFEST | changes))  # type: ignore[arg-type]


def adopting(measured: bytes, **changes: object) -> Charters:
    ledger = Charters.begin(AUTHORITY)
    for manifest in manifests(measured, **changes):  # type: ignore[arg-type]
        ledger, _ = advance(ledger, Adopt(manifest))
    return ledger


def history(measured: bytes, ended: int | None = None, **changes: object) -> bytes:
    """With `ended`, a third release begins there."""
    ledger, decisions = Charters.begin(AUTHORITY), []
    before, manifest = manifests(measured, **changes)  # type: ignore[arg-type]
    successors = () if ended is None else (made_manifest("0.3.0", manifest, first=ended),)
    for action in map(Adopt, (before, manifest, *successors)):
        decisions.append(decide(ledger, action))
        ledger, _ = advance(ledger, action)
    return History(AUTHORITY, tuple(decisions)).encode()


def adopted(measured: bytes) -> bytes:
    return adopting(measured).head


def governed(document: bytes | None) -> tuple[AuditBundle, bytes]:
    """A bundle of a cell whose release was adopted, and the digest of its measured configuration."""
    little = broker(adopted, "0.2.0")
    measured = config(little.keys.public)
    of = config_digest(measured)
    cell = run_cell(
        "cell a", measured, world().chain, first=2, by=replace(served_by(measured, "0.2.0"), adoption=adopted(of))
    )
    made = replace(
        world(),
        config=measured,
        cells=(cell,),
        entries={"cell a": granted("cell a", measured, little)},
        evidence={"cell a": evidence_of("cell a", measured, audit_nonce(world().chain.link(2)))},
    ).bundle(2, 3)
    entries = ReleasePart.parse(made.cells[0].release).entries
    return with_cell(made, release=ReleasePart(entries, document).encode()), of


def test_a_decision_that_is_named_has_to_be_shown_and_read() -> None:  # audit.md U17, U18
    bundle, of = governed(None)
    reader = HistoryReader(authority_digest(AUTHORITY))
    assert first(judged(bundle, terms(decisions=reader))).got.startswith("none")
    shown, _ = governed(history(of))
    assert first(judged(shown)).expected == "an authority that you believe"
    report = judged(shown, terms(decisions=reader))
    assert report.ok, report.failed
    found = next(f for f in report.of(Stage.RELEASE) if f.code == "release.decision")
    assert found.got.startswith("release 0.2.0: decision 2 of 2, by ")
    assert "in force" in found.got


@pytest.mark.parametrize(
    "changes", [{"snp": [b"\x11" * 48]}, {"model_root": b"\x11" * 32}, {"measured_config": b"\x11" * 32}], ids=str
)
def test_a_decision_about_something_else_is_no_decision_about_this(changes: dict[str, object]) -> None:
    # audit.md U18
    bundle, of = governed(None)
    measured = changes.pop("measured_config", of)
    about = Decided(adopting(measured, **changes).head, "0.2.0", snp_tee().fields.measurement, of, MODEL_ROOT)  # type: ignore[arg-type]
    with pytest.raises(AuditRefused):
        HistoryReader(authority_digest(AUTHORITY)).read(history(measured, **changes), about, terms())  # type: ignore[arg-type]
    assert bundle.cells


def test_another_authority_s_history_or_one_cut_short_is_refused() -> None:  # audit.md U18
    shown, of = governed(history(config_digest(config(broker(adopted, "0.2.0").keys.public))))
    for reader in (HistoryReader(b"\x11" * 32), HistoryReader(authority_digest(AUTHORITY), (b"\x11" * 32,))):
        assert first(judged(shown, terms(decisions=reader))).code == "release.decision"
    about = Decided(b"\x11" * 32, "0.2.0", snp_tee().fields.measurement, of, MODEL_ROOT)
    with pytest.raises(AuditRefused, match="adopted by"):
        HistoryReader(authority_digest(AUTHORITY)).read(history(of), about, terms())
    with pytest.raises(AuditRefused, match="release 0"):
        HistoryReader(authority_digest(AUTHORITY)).read(
            history(of), replace(about, adoption=adopted(of), release="0.3.0"), terms()
        )


def test_receipts_that_name_another_decision_than_the_grant() -> None:  # audit.md U17
    by = replace(served_by(world().config), adoption=b"\x11" * 32)
    assert first(judged(one_cell(run_cell("cell a", world().config, world().chain, by=by)))).code == "receipts.release"


def second_release_at_one_position() -> Finding:
    """The first failed check of a cell that answered blocks 2 and 3, where block 3 is its successor's."""
    of = governed(None)[1]
    reader = HistoryReader(authority_digest(AUTHORITY))
    return first(judged(governed(history(of, ended=3))[0], terms(decisions=reader)))


def test_blocks_of_another_release_by_what_was_decided() -> None:  # audit.md U19
    """Two releases at one position: the history gives each block to one of them."""
    of = governed(None)[1]
    reader = HistoryReader(authority_digest(AUTHORITY))
    report = judged(governed(history(of))[0], terms(decisions=reader))
    assert next(f for f in report.findings if f.code == "release.heights").got == "blocks from 2 on"
    found = second_release_at_one_position()
    assert (found.code, found.expected, found.got) == (
        "release.heights",
        "blocks 2 to 2 for release 0.2.0",
        "block 3 (audit.heights)",
    )


@pytest.mark.parametrize(("heights", "got"), [(Heights(2, None), "block 1"), (Heights(1, 2), "block 3")], ids=str)
def test_blocks_that_the_broker_granted_to_nobody_of_this_release(heights: Heights, got: str) -> None:  # audit.md U19
    little = broker(heights=heights)
    measured = config(little.keys.public)
    made = replace(
        world(),
        config=measured,
        cells=(run_cell("cell a", measured, world().chain),),
        entries={"cell a": granted("cell a", measured, little)},
        evidence={"cell a": evidence_of("cell a", measured, audit_nonce(world().chain.link(1)))},
    ).bundle()
    found = first(judged(made))
    assert (found.code, found.got) == ("release.granted-heights", f"{got} (audit.heights)")


def test_a_grant_that_names_no_blocks_is_none() -> None:  # audit.md U15
    added, (raw, _) = ReleasePart.parse(BUNDLE.cells[0].release).entries
    entry = Entry.parse(raw)
    bent = replace(entry, details={name: said for name, said in entry.details.items() if name != "last"})
    grant = (bent.encode(), sign(bent, broker().keys.signing))
    found = first(judged(with_cell(BUNDLE, release=ReleasePart((added, grant)).encode())))
    assert (found.code, found.expected) == ("release.granted", "the blocks that it is for")


def test_grants_of_two_releases_to_one_cell_are_none() -> None:  # audit.md U15
    added, (raw, signature) = ReleasePart.parse(BUNDLE.cells[0].release).entries
    entry = Entry.parse(raw)
    other = replace(entry, position=entry.position + 1, details={**entry.details, "release": "little-2"})
    entries = (added, (raw, signature), (other.encode(), sign(other, broker().keys.signing)))
    found = first(judged(with_cell(BUNDLE, release=ReleasePart(entries).encode())))
    assert (found.code, found.got) == ("release.granted", "little-2 (audit.grant)")


def test_two_releases_that_answered_one_place_are_named() -> None:  # audit.md U41
    by = replace(served_by(world().config), release="little-2")
    other = one_cell(run_cell("cell a", world().config, world().chain, by=by))
    outputs = [output for bundle in (BUNDLE, other) for output in Output.all_of("x", bundle.encode())]
    assert compare(outputs).divergence is not None
    assert compare([outputs[0], outputs[-1]]).divergence.what == "releases little-1 and little-2 both answered it"  # type: ignore[union-attr]


def test_a_document_for_no_decision_is_refused() -> None:  # audit.md U17
    entries = ReleasePart.parse(BUNDLE.cells[0].release).entries
    bundle = with_cell(BUNDLE, release=ReleasePart(entries, b"a vote").encode())
    reader = HistoryReader(authority_digest(AUTHORITY))
    assert first(judged(bundle, terms(decisions=reader))).code == "release.decision"


def test_a_cell_that_was_measured_without_a_broker() -> None:  # audit.md U15
    measured = config(None)
    by = replace(served_by(measured, ""), model_root=None, tokenizer=None, template=None)
    cell = run_cell("cell a", measured, world().chain, by=by)
    evidence = {"cell a": evidence_of("cell a", measured, audit_nonce(world().chain.link(1)))}
    of = replace(world(), config=measured, cells=(cell,), evidence=evidence, entries={"cell a": ()})
    assert judged(of.bundle()).ok
    with_entries = with_cell(of.bundle(), release=BUNDLE.cells[0].release)
    assert first(judged(with_entries)).code == "release.logged"


# -- receipts


def test_a_receipt_left_out_is_missed() -> None:  # audit.md U20
    signed = ReceiptsPart.parse(BUNDLE.cells[0].receipts).signed
    for number in range(len(signed)):
        left = ReceiptsPart(signed[:number] + signed[number + 1 :]).encode()
        finding = first(judged(with_cell(BUNDLE, receipts=left)))
        assert (finding.code, finding.status) == ("receipts.complete", Status.LOG)


@pytest.mark.parametrize("which", ["doubled", "swapped"])
def test_a_receipt_is_there_once_and_in_its_place(which: str) -> None:  # audit.md U20
    signed = ReceiptsPart.parse(BUNDLE.cells[0].receipts).signed
    bent = {"doubled": (*signed, signed[-1]), "swapped": (signed[1], signed[0], *signed[2:])}[which]
    assert first(judged(with_cell(BUNDLE, receipts=ReceiptsPart(bent).encode()))).code == "receipts.complete"


Bend = Callable[[OrderedRequest, Conclusion], Conclusion]


def bent_at(number: int, **changes: object) -> Bend:
    def bend(request: OrderedRequest, said: Conclusion) -> Conclusion:
        return replace(said, **changes) if request.id == number else said  # type: ignore[arg-type]

    return bend


def test_a_cell_that_executed_something_else_is_found() -> None:  # receipt.md T4, audit.md U22
    def another(request: OrderedRequest, said: Conclusion) -> Conclusion:
        object.__setattr__(request, "request_digest", b"\x99" * 32)
        return said

    assert (
        first(judged(one_cell(run_cell("cell a", world().config, world().chain, bend=another)))).code
        == "receipts.executed"
    )


def test_a_seed_that_is_not_the_beacon_s_is_found() -> None:  # receipt.md T15
    cell = run_cell("cell a", world().config, world().chain, bend=bent_at(1, seed=b"\x99" * 32))
    assert first(judged(one_cell(cell))).code == "receipts.seed"


def test_a_cell_that_names_what_was_not_released_is_found() -> None:  # receipt.md T2, T3
    for change in ({"release": "another"}, {"config": b"\x99" * 32}, {"model_root": b"\x99" * 32}):
        by = replace(served_by(world().config), **change)  # type: ignore[arg-type]
        cell = run_cell("cell a", world().config, world().chain, by=by)
        assert first(judged(one_cell(cell))).code == "receipts.release"


def test_two_cells_that_differ_are_an_alarm() -> None:  # audit.md U21
    other = run_cell("cell b", world().config, world().chain, bend=bent_at(0, tokens_out=9))
    report = judged(replace(world(), cells=(world().cells[0], other)).bundle())
    assert "receipts.same" in [f.code for f in report.failed]
    found = next(f for f in report.failed if f.code == "receipts.same")
    assert (found.cell, found.got) == (1, "another tokens_out (audit.diverged)")


def test_what_it_cost_is_computed_again() -> None:  # receipt.md T16, T17, audit.md U31
    dearer = PriceSchedule(1_000_000, 2_000, 10_001)
    cell = run_cell("cell a", world().config, world().chain, price=dearer)
    assert [f.code for f in judged(one_cell(cell)).failed] == ["metering.price", "metering.sum"]


# -- the log


def test_a_slice_out_of_a_longer_log() -> None:  # receipt.md T23, audit.md U24
    assert judged(world().bundle(2, 2), terms(nonces=(audit_nonce(world().chain.link(1)),))).ok


def test_a_fork_shows_and_is_handed_out_as_a_document() -> None:  # audit.md U27
    another = run_cell("cell a", world().config, world().chain, bend=bent_at(8, tokens_out=9))
    report = judged(GOOD, terms(seen=(another.notes[-1],)))
    assert (first(report).code, first(report).status) == ("log.seen", Status.LOG)
    assert "evidence of fraud" in first(report).got
    assert Fork.parse(report.forks[0]).check() == "signed two different logs of 10 receipts"


def test_a_fork_that_ended_earlier_shows() -> None:  # audit.md U27
    another = run_cell("cell a", world().config, world().chain, bend=bent_at(0, tokens_out=9))
    assert first(judged(GOOD, terms(seen=(another.notes[0],)))).code == "log.seen"


def test_a_log_that_was_rolled_back_shows() -> None:  # audit.md U27
    cell = world().cells[0]
    short = replace(world(), cells=(replace(cell, signed=cell.signed[:5], notes=cell.notes[:2]),))
    assert judged(short.bundle(1, 2)).ok
    finding = first(judged(short.bundle(1, 2), terms(seen=(cell.notes[2],))))
    assert "rolled-back" in finding.got


def test_what_was_seen_of_the_same_log_agrees() -> None:  # audit.md U27
    cell = world().cells[0]
    cosigned = cell.notes[1] + "\u2014 witness.example/w PlsIxA==\n".encode()
    report = judged(GOOD, terms(seen=(cosigned, cell.notes[2], world().cells[1].notes[0])))
    assert report.ok
    assert len([f for f in report.findings if f.code == "log.seen" and f.standing is Standing.HOLDS]) == 3


def test_earlier_checkpoints_need_their_proofs_and_their_order() -> None:  # receipt.md T22, T23, audit.md U25
    part = LogPart.parse(BUNDLE.cells[0].log)
    for earlier in (((part.earlier[0][0], ()),), part.earlier[::-1], (*part.earlier, (part.newest, ()))):
        bundle = with_cell(BUNDLE, log=replace(part, earlier=tuple(earlier)).encode())
        assert first(judged(bundle)).code == "log.consistency"


def test_a_fork_inside_a_bundle_is_fraud() -> None:  # audit.md U27
    another = run_cell("cell a", world().config, world().chain, bend=bent_at(8, tokens_out=9))
    part = LogPart.parse(BUNDLE.cells[0].log)
    report = judged(with_cell(BUNDLE, log=replace(part, earlier=((another.notes[-1], ()),)).encode()))
    assert "evidence of fraud" in first(report).got
    assert Fork.parse(report.forks[0]).key == raw(receipt_key("cell a"))


def test_receipts_that_stand_elsewhere_in_the_log_are_found() -> None:  # receipt.md T23
    part = LogPart.parse(BUNDLE.cells[0].log)
    for bent in (replace(part, first=1), replace(part, beside=(bytes(32),))):
        assert first(judged(with_cell(BUNDLE, log=bent.encode()))).code == "log.inclusion"


def test_a_checkpoint_in_the_middle_of_a_block_is_found() -> None:  # receipt.md T22, audit.md U26
    cell = run_cell("cell a", world().config, world().chain)
    again = ReceiptBook(receipt_key("cell a"), served_by(world().config), GATEWAY, PRICE)
    notes = []
    for height in (1, 2, 3):
        for request in ordered(world().chain, height):
            again.issue(request, conclusion(request))
            if request.id == 0:
                notes.append(again.checkpoint())
    cell.notes[:] = [*notes, again.checkpoint()]
    assert first(judged(one_cell(cell))).code == "log.blocks"


def test_another_key_s_checkpoint_is_not_this_log_s() -> None:  # receipt.md T19
    part = LogPart.parse(BUNDLE.cells[1].log)
    assert first(judged(with_cell(BUNDLE, log=part.encode()))).code == "log.checkpoint"


# -- answers


def answers_with(number: int, answer: Answer) -> AuditBundle:
    part = AnswersPart.parse(BUNDLE.answers)
    return replace(BUNDLE, answers=AnswersPart((*part.answers[:number], answer, *part.answers[number + 1 :])).encode())


def test_another_answer_is_found() -> None:  # receipt.md T12
    for number in range(10):
        assert first(judged(answers_with(number, Answer(b"other words")))).code == "answers.said"
    assert first(judged(replace(BUNDLE, answers=AnswersPart(()).encode()))).code == "answers.said"


def test_withheld_answers_are_said_to_be() -> None:  # audit.md U30
    report = judged(replace(BUNDLE, answers=AnswersPart((Answer(),) * 10).encode()))
    assert report.ok
    assert "withheld" in next(f.got for f in report.findings if f.code == "answers.said")


def test_another_opening_is_found() -> None:  # receipt.md T13
    part = AnswersPart.parse(BUNDLE.answers)
    opening = Opening.parse(part.answers[2].opening or b"")
    bent = Opening(opening.salt, replace(opening.outcome, tokens_out=8)).encode()
    assert first(judged(answers_with(2, Answer(part.answers[2].said, bent)))).code == "answers.outcome"


def test_a_plain_receipt_s_clear_values_are_those_committed_to() -> None:  # receipt.md T13
    cell = run_cell("cell a", world().config, world().chain, bend=bent_at(0, tokens_out=6))
    report = judged(one_cell(cell))
    assert [f.code for f in report.failed] == ["answers.outcome"]


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
