"""audit.md: the release of a cell: what its broker granted, and what was decided about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.config import config_digest
from attestation.auditor.audit_bundle import AuditBundle, ReleasePart, audit_nonce
from attestation.auditor.comparison import Output, compare
from attestation.auditor.decision_history import HistoryReader
from attestation.auditor.errors import AuditRefused
from attestation.auditor.findings import Finding, FindingStanding, Stage
from attestation.auditor.terms import WantedDecision
from attestation.decision_log.chain import sign
from attestation.decision_log.codec import Entry
from attestation.decision_log.events import Granted
from devnet.broker import measurement_of
from measurements.governance.actions import Adopt
from measurements.governance.authority import authority_digest
from measurements.governance.history import History
from measurements.governance.history import Ledger as Charters
from measurements.launch.measurement import SnpLaunchDigest
from measurements.release.heights import Heights
from measurements.release.manifest import Manifest
from tests.charters import AUTHORITY, advance, decide
from tests.little_audit import broker, config, evidence_of, granted, run_cell, served_by, terms, world
from tests.little_broker import MODEL_ROOT
from tests.little_tee import snp_tee
from tests.releases import made_manifest
from tests.unit.attestation.auditor.audited_bundles import BUNDLE, first, judged, one_cell, with_cell


def test_a_grant_to_another_cell_is_no_grant_to_this_one() -> None:  # audit.md U15
    bundle = with_cell(BUNDLE, release=BUNDLE.cells[1].release)
    assert first(judged(bundle)).code == "release.granted"


def test_without_its_approval_the_release_is_said_to_be_unshown() -> None:  # audit.md U16
    _, grant = ReleasePart.parse(BUNDLE.cells[0].release).entries
    report = judged(with_cell(BUNDLE, release=ReleasePart((grant,)).encode()))
    assert report.ok
    assert "release.approved" in [f.code for f in report.findings if f.standing is FindingStanding.UNCHECKED]


@pytest.mark.parametrize("which", ["reversed", "doubled", "foreign"])
def test_entries_are_the_broker_s_in_the_order_of_its_log(which: str) -> None:  # audit.md U15
    added, grant = ReleasePart.parse(BUNDLE.cells[0].release).entries
    with broker().store.change() as change:
        foreign = next(iter(change.entries()))
    entries = {"reversed": (grant, added), "doubled": (added, added, grant), "foreign": (foreign, grant)}[which]
    assert first(judged(with_cell(BUNDLE, release=ReleasePart(entries).encode()))).code == "release.logged"


OTHER = SnpLaunchDigest(b"\x11" * 48)
MANIFEST = {"launches": [measurement_of(snp_tee())], "model_root": MODEL_ROOT}


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
    "changes", [{"launches": [OTHER]}, {"model_root": b"\x11" * 32}, {"measured_config": b"\x11" * 32}], ids=str
)
def test_a_decision_about_something_else_is_no_decision_about_this(changes: dict[str, object]) -> None:
    # audit.md U18
    bundle, of = governed(None)
    measured = changes.pop("measured_config", of)
    about = WantedDecision(adopting(measured, **changes).head, "0.2.0", measurement_of(snp_tee()), of, MODEL_ROOT)  # type: ignore[arg-type]
    with pytest.raises(AuditRefused):
        HistoryReader(authority_digest(AUTHORITY)).read(history(measured, **changes), about, terms())  # type: ignore[arg-type]
    assert bundle.cells


def test_another_authority_s_history_or_one_cut_short_is_refused() -> None:  # audit.md U18
    shown, of = governed(history(config_digest(config(broker(adopted, "0.2.0").keys.public))))
    for reader in (HistoryReader(b"\x11" * 32), HistoryReader(authority_digest(AUTHORITY), (b"\x11" * 32,))):
        assert first(judged(shown, terms(decisions=reader))).code == "release.decision"
    about = WantedDecision(b"\x11" * 32, "0.2.0", measurement_of(snp_tee()), of, MODEL_ROOT)
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
    assert isinstance(entry.event, Granted)
    bent = replace(entry, event=replace(entry.event, blocks=None))
    grant = (bent.encode(), sign(bent, broker().keys.signing))
    found = first(judged(with_cell(BUNDLE, release=ReleasePart((added, grant)).encode())))
    assert (found.code, found.expected) == ("release.granted", "the blocks that it is for")


def test_grants_of_two_releases_to_one_cell_are_none() -> None:  # audit.md U15
    added, (raw, signature) = ReleasePart.parse(BUNDLE.cells[0].release).entries
    entry = Entry.parse(raw)
    assert isinstance(entry.event, Granted)
    cell = replace(entry.event.cell, release="little-2")
    other = replace(entry, position=entry.position + 1, event=replace(entry.event, cell=cell))
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
