"""A broker under an authority: what was decided is in force at once, and nothing else is.

governance.md V15 to V21; key-release.md R10, R14.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from attestation.broker.administration import add_release, revoke, set_release
from attestation.broker.authority import adopt, govern, history_of, show_height
from attestation.broker.errors import Denied, StoreRefused
from attestation.broker.session import Release
from attestation.broker.store import Store
from attestation.consensus.refusals import ConsensusRefused
from attestation.decision_log.errors import LogRefused
from attestation.decision_log.words import ReleaseState, RevocationKind
from attestation.rcar.grant import NO_ADOPTION
from devnet.broker import measurement_of
from devnet.chain import Chain as GatewayChain
from devnet.subnet import GATEWAY, Subnet
from devnet.tee import SimulatedSnpTee, reference_values
from measurements.governance.actions import Action, Adopt, AmendCharter, RevokeChips, RotateKey, Withdraw
from measurements.governance.authority import authority_digest, encode_authority
from measurements.governance.errors import GovernanceRefused
from measurements.governance.history import Ledger
from measurements.launch.measurement import SnpLaunchDigest
from measurements.release.heights import Heights
from measurements.release.manifest import Manifest, MinimumTcb, Named, Serves
from tests import postgres
from tests.charters import AUTHORITY, charter, decide, no_chain
from tests.little_broker import (
    MODEL_KEY,
    MODEL_ROOT,
    NOW_NS,
    PLAIN,
    SECRETS,
    LittleBroker,
    LittleCell,
    MakeBroker,
    bent,
)
from tests.little_tee import CONFIG, snp_tee
from tests.releases import made_manifest, measurement

TEE = snp_tee()
[CHIP] = reference_values(TEE).allowed("snp.chip_id")
NEXT_TEE = bent(TEE, measurement=measurement("the next image"))
assert isinstance(TEE, SimulatedSnpTee)
LOW = MinimumTcb({"Genoa *": {"bootloader": 0, "tee": 0, "snp": 0, "microcode": 0}}, ())


def manifest_of(tee: SimulatedSnpTee, version: str, supersedes: Manifest | None = None) -> Manifest:
    launches = [measurement_of(tee)]
    made = made_manifest(version, supersedes, launches=launches, model_root=MODEL_ROOT, measured_config=CONFIG)
    return replace(made, minimum_tcb=LOW)


def serving(manifest: Manifest, heights: Heights, lease: int = 2) -> Manifest:
    return replace(manifest, serves=Serves(heights, lease))


FIRST = manifest_of(TEE, "0.1.0")
SECOND = manifest_of(NEXT_TEE, "0.2.0", FIRST)


class Governed:
    """A broker and the history its authority makes for it."""

    def __init__(self, little: LittleBroker) -> None:
        self.little = little
        govern(self.little.store, encode_authority(AUTHORITY), NOW_NS)
        self.ledger = Ledger.begin(AUTHORITY)

    def decide(self, action: Action) -> bytes:
        decision = decide(self.ledger, action)
        self.ledger, _ = self.ledger.advance(decision, no_chain)
        adopt(self.little.store, decision.encode(), NOW_NS)
        return self.ledger.head

    def key(self, tee: SimulatedSnpTee = TEE) -> tuple[bytes, str]:
        """The adoption that a grant names and the release; raises `Denied`."""
        cell = LittleCell(tee).admitted(self.little.broker)
        context, secret = cell.open(cell.fetch(self.little.broker, MODEL_KEY), self.little.public)
        assert secret == SECRETS[MODEL_KEY]
        return context.adoption, context.release

    def heights(self, tee: SimulatedSnpTee = TEE) -> tuple[int, int]:
        cell = LittleCell(tee).admitted(self.little.broker)
        heights = cell.open(cell.fetch(self.little.broker, MODEL_KEY), self.little.public)[0].heights
        assert heights is not None
        assert heights.first <= heights.renew <= heights.last
        return heights.first, heights.last

    def denial(self, tee: SimulatedSnpTee = TEE) -> str:
        with pytest.raises(Denied) as caught:
            self.key(tee)
        assert self.little.last().details["code"] == caught.value.code
        return caught.value.code


@pytest.fixture
def governed(tmp_path: Path, make_broker: MakeBroker) -> Governed:
    return Governed(make_broker(tmp_path, TEE, approved=False))


@pytest.mark.postgres
@postgres.NEEDED
def test_on_postgresql_too(tmp_path: Path, make_broker: MakeBroker) -> None:
    with postgres.cluster() as url:
        governed = Governed(make_broker(tmp_path, TEE, url, approved=False))
        first = governed.decide(Adopt(FIRST))
        assert governed.key() == (first, "0.1.0")
        governed.decide(RotateKey("default/model-key/other", 2, "a backup was lost"))
        governed.decide(Adopt(SECOND))
        governed.decide(Withdraw("0.2.0", SECOND.digest, "it leaks"))
        assert governed.denial(NEXT_TEE) == "release.withdrawn"
        governed.little.audit()
        governed.little.store.close()


def test_what_was_decided_is_what_a_grant_names(governed: Governed) -> None:
    assert governed.denial() == "snp.measurement"
    adoption = governed.decide(Adopt(FIRST))
    assert governed.key() == (adoption, "0.1.0")
    assert governed.little.last().details["adoption"] == adoption
    governed.little.audit()
    assert governed.little.again().audit()


def test_without_a_decision_a_grant_says_so(tmp_path: Path, make_broker: MakeBroker) -> None:
    little = make_broker(tmp_path, TEE)
    cell = LittleCell(TEE).admitted(little.broker)
    assert cell.open(cell.fetch(little.broker, MODEL_KEY), little.public)[0].adoption == NO_ADOPTION
    [added] = [entry for entry in little.entries() if entry.kind == "release-added"]
    assert added.details["by"] == "administrator"


def test_withdrawal_is_in_force_at_once_even_for_who_attested_before(governed: Governed) -> None:
    governed.decide(Adopt(FIRST))
    cell = LittleCell(TEE).admitted(governed.little.broker)
    governed.decide(Withdraw("0.1.0", FIRST.digest, "it leaks"))
    with pytest.raises(Denied) as caught:
        cell.fetch(governed.little.broker, MODEL_KEY)
    assert caught.value.code == "release.withdrawn"
    assert governed.denial() == "release.withdrawn"
    governed.little.audit()


def test_a_superseded_release_ends_one_lease_behind_its_last_block(governed: Governed) -> None:
    """governance.md V18; key-release.md R34, R35: and neither is ever granted a block of the other."""
    short, last = serving(FIRST, Heights(1, None)), serving(SECOND, Heights(3, None))
    last = replace(last, supersedes=Named(short.version, short.digest))
    first = governed.decide(Adopt(short))
    assert governed.heights(TEE) == (1, 2)
    second = governed.decide(Adopt(last))
    assert governed.key(TEE) == (first, "0.1.0")
    assert governed.key(NEXT_TEE) == (second, "0.2.0")
    subnet = Subnet(b"gateway")
    chain = GatewayChain(subnet, GATEWAY, seed=b"one")
    for height in (1, 2, 3, 4, 5):
        chain.seal([b"prompt"], NOW_NS)
        shown = show_height(
            governed.little.store,
            chain.proof(1, height, NOW_NS),
            root_key=subnet.root_key,
            gateway=GATEWAY,
            now_ns=NOW_NS,
        )
        assert shown == height
        if height < 5:
            assert governed.heights(TEE) == (1, 2)
        assert governed.heights(NEXT_TEE) == (3, max(4, height + 2))
    assert governed.denial(TEE) == "release.superseded"
    assert governed.key(NEXT_TEE)[1] == "0.2.0"
    again = show_height(
        governed.little.store, chain.proof(1, 1, NOW_NS), root_key=subnet.root_key, gateway=GATEWAY, now_ns=NOW_NS
    )
    assert again == 5
    with pytest.raises(ConsensusRefused):
        show_height(
            governed.little.store,
            chain.proof(1, 3, NOW_NS),
            root_key=Subnet(b"x").root_key,
            gateway=GATEWAY,
            now_ns=NOW_NS,
        )
    governed.little.audit()


def test_what_was_granted_is_not_granted_again(governed: Governed) -> None:
    """key-release.md R35, governance.md V24: a successor that was decided to begin too early begins behind it."""
    early = replace(serving(SECOND, Heights(2, None)), supersedes=Named(FIRST.version, FIRST.digest))
    governed.decide(Adopt(FIRST))
    assert governed.heights(TEE) == (1, 100)
    governed.decide(Adopt(early))
    assert governed.heights(TEE) == (1, 100)
    assert governed.heights(NEXT_TEE) == (101, 102)
    governed.little.audit()
    assert governed.little.again().audit()


def test_a_release_whose_blocks_are_all_taken_gets_no_key(governed: Governed) -> None:
    brief = replace(serving(SECOND, Heights(2, 50)), supersedes=Named(FIRST.version, FIRST.digest))
    governed.decide(Adopt(FIRST))
    assert governed.heights(TEE) == (1, 100)
    governed.decide(Adopt(brief))
    assert governed.denial(NEXT_TEE) == "release.heights"


def test_a_downgrade_and_a_replay_change_nothing(governed: Governed) -> None:
    first = decide(governed.ledger, Adopt(FIRST)).encode()
    governed.decide(Adopt(FIRST))
    governed.decide(Adopt(SECOND))
    before = governed.little.entries()
    downgrade = decide(governed.ledger, Adopt(manifest_of(bent(TEE, measurement=measurement("old")), "0.1.5")))
    for raw, code in ((first, "history.replayed"), (downgrade.encode(), "release.downgrade")):
        with pytest.raises(GovernanceRefused) as caught:
            adopt(governed.little.store, raw, NOW_NS)
        assert caught.value.code == code
    assert governed.little.entries() == before


def test_chips_and_keys_go_by_decision(governed: Governed) -> None:
    governed.decide(Adopt(FIRST))
    governed.decide(RotateKey(MODEL_KEY, 2, "a backup was lost"))
    assert governed.denial() == "grant.version"
    governed.decide(RevokeChips((CHIP,), "its seed was extracted"))
    assert governed.denial() == "revoked.chip"
    governed.little.audit()


def test_a_chip_the_administrator_revoked_first_stays_revoked(governed: Governed) -> None:
    revoke(governed.little.store, RevocationKind.CHIP, CHIP, NOW_NS)
    governed.decide(RevokeChips((CHIP,), "its seed was extracted"))
    governed.little.audit()


def test_a_machine_below_the_releases_own_floor_gets_nothing(governed: Governed) -> None:
    levels = {"bootloader": 255, "tee": 255, "snp": 255, "microcode": 255}
    name = next(iter(LOW.snp))
    governed.decide(Adopt(replace(FIRST, minimum_tcb=MinimumTcb({name: levels}, ()))))
    assert governed.denial() == "release.tcb"


def test_under_an_authority_an_administrators_word_must_be_called_one(governed: Governed) -> None:
    store = governed.little.store
    release = Release("mine", measurement_of(TEE), MODEL_ROOT, CONFIG, ReleaseState.APPROVED)
    with pytest.raises(StoreRefused) as caught:
        add_release(store, release, NOW_NS)
    assert caught.value.code == "store.governed"
    add_release(store, release, NOW_NS, on_my_word=True)
    assert governed.little.last().details["by"] == "administrator"
    assert governed.key() == (NO_ADOPTION, "mine")


@pytest.mark.parametrize("name", ["0.1.0", "tried out"])
def test_a_decision_takes_the_place_of_an_administrators_word(governed: Governed, name: str) -> None:
    """governance.md V16."""
    store = governed.little.store
    release = Release(name, measurement_of(TEE), MODEL_ROOT, CONFIG, ReleaseState.APPROVED)
    add_release(store, release, NOW_NS, on_my_word=True)
    assert governed.key() == (NO_ADOPTION, name)
    cell = LittleCell(TEE).admitted(governed.little.broker)
    adoption = governed.decide(Adopt(FIRST))
    with pytest.raises(Denied):  # it was admitted as something else
        cell.fetch(governed.little.broker, MODEL_KEY)
    assert governed.key() == (adoption, "0.1.0")
    governed.little.audit()


def test_an_administrator_cannot_borrow_a_decision(governed: Governed) -> None:
    adoption = governed.decide(Adopt(FIRST))
    governed.decide(Adopt(SECOND))
    for state in (ReleaseState.APPROVED, ReleaseState.SUPERSEDED, ReleaseState.PROPOSED):
        with pytest.raises(StoreRefused):
            set_release(governed.little.store, "0.1.0", state, NOW_NS, on_my_word=True)
    with pytest.raises(StoreRefused):
        add_release(
            governed.little.store,
            Release("0.3.0", SnpLaunchDigest(b"\x01" * 48), MODEL_ROOT, CONFIG, ReleaseState.APPROVED, adoption),
            NOW_NS,
            on_my_word=True,
        )
    with pytest.raises(StoreRefused):
        add_release(
            governed.little.store,
            Release("0.1.0", SnpLaunchDigest(b"\x01" * 48), MODEL_ROOT, CONFIG, ReleaseState.APPROVED),
            NOW_NS,
            on_my_word=True,
        )


def test_an_administrator_may_end_what_was_adopted(governed: Governed) -> None:
    governed.decide(Adopt(FIRST))
    set_release(governed.little.store, "0.1.0", ReleaseState.RETIRED, NOW_NS)
    assert governed.denial() == "release.unapproved"
    governed.decide(Adopt(SECOND))
    assert governed.denial() == "release.unapproved"  # a supersession brings nothing back
    governed.little.audit()


def test_an_authority_is_set_once_and_over_nothing_approved(
    tmp_path: Path, governed: Governed, make_broker: MakeBroker
) -> None:
    with pytest.raises(StoreRefused):
        govern(governed.little.store, encode_authority(AUTHORITY), NOW_NS)
    (tmp_path / "other").mkdir()
    little = make_broker(tmp_path / "other", TEE)
    with pytest.raises(StoreRefused):
        govern(little.store, encode_authority(AUTHORITY), NOW_NS)
    with pytest.raises(StoreRefused):
        adopt(little.store, decide(Ledger.begin(AUTHORITY), Adopt(FIRST)).encode(), NOW_NS)
    with pytest.raises(StoreRefused):
        history_of(little.store)


def test_the_history_of_a_broker_proves_itself(governed: Governed) -> None:
    adoption = governed.decide(Adopt(FIRST))
    governed.decide(AmendCharter(replace(charter("ada", "ben", "dan"), name="after cyd left")))
    ledger, decided = history_of(governed.little.store).verify(authority_digest(AUTHORITY), no_chain, [adoption])
    assert ledger.head == governed.ledger.head
    assert [each.position for each in decided] == [1, 2]


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        ("update releases_by_height set state='approved'", "log.releases"),
        ("update releases_by_height set last_height=99", "log.releases"),
        ("update releases_by_height set first_height=2", "log.releases"),
        ("update releases_by_height set lease=99", "log.releases"),
        ("update releases_by_height set adoption=zeroblob(32)", "log.releases"),
        ("update releases_by_height set minimum_tcb=x''", "log.releases"),
        ("update granted_heights set last_height=99", "log.granted-heights"),
        ("delete from granted_heights", "log.granted-heights"),
        ("delete from governance", "log.authority"),
        ("delete from decisions where position=2", "log.decisions"),
        ("update decisions set digest=zeroblob(32) where position=1", "log.decisions"),
        ("update decisions set decision=zeroblob(9) where position=1", "log.decisions"),
        ("delete from least_versions", "log.least-versions"),
        ("insert into gateway_height values (1, 7)", "log.height"),
    ],
)
def test_what_is_changed_behind_the_logs_back_is_found(governed: Governed, edit: str, code: str) -> None:
    governed.decide(Adopt(FIRST))
    governed.key()
    governed.decide(Withdraw("0.1.0", FIRST.digest, "it leaks"))
    governed.decide(RotateKey(MODEL_KEY, 2, "a backup was lost"))
    with governed.little.store.engine.begin() as connection:
        connection.execute(sa.text(edit))
    with pytest.raises(LogRefused) as caught:
        governed.little.audit()
    assert caught.value.code == code


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("version", [1, 2, 4])
def test_a_store_of_another_version_is_refused_by_name(tmp_path: Path, version: int, create: bool) -> None:
    url = f"sqlite:///{tmp_path}/broker.db"
    Store.open(url, create=True).close()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("update schema_version set version=:version"), {"version": version})
    engine.dispose()
    with pytest.raises(StoreRefused) as caught:
        Store.open(url, create=create)
    assert (caught.value.code, caught.value.expected, caught.value.got) == (
        "store.schema",
        "a store of version 3",
        f"a store of version {version}",
    )


def test_a_store_is_made_only_if_asked_for(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/broker.db"
    (tmp_path / "broker.db").touch()
    with pytest.raises(StoreRefused) as caught:
        Store.open(url)
    assert (caught.value.code, caught.value.got) == ("store.schema", "no store")
    Store.open(url, create=True).close()
    Store.open(url).close()


def test_other_resources_are_denied_with_the_release(governed: Governed) -> None:
    governed.decide(Adopt(FIRST))
    cell = LittleCell(TEE).admitted(governed.little.broker)
    assert cell.fetch(governed.little.broker, PLAIN)
