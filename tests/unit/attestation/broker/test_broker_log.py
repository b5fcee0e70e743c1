"""key-release.md R19 to R23: the log and the store against every edit; secrets at rest; the same on PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from attestation.broker.administration import add_release, add_secret, forget_secret, revoke, set_release
from attestation.broker.broker import load_keys
from attestation.broker.errors import StoreRefused, WrapRefused
from attestation.broker.log import audit
from attestation.broker.rates import ADDRESSES_MAX, Rate, RateLimits
from attestation.broker.session import Release
from attestation.broker.store import Store
from attestation.broker.wrapping import SoftwareWrapping, TokenWrapping, open_wrapping
from attestation.decision_log import chain
from attestation.decision_log.errors import LogRefused
from attestation.decision_log.words import ReleaseState, RevocationKind
from foundation.secrecy import Secret
from measurements.launch.measurement import SnpLaunchDigest
from tests import postgres
from tests.little_broker import KEK, MODEL_KEY, MODEL_ROOT, NOW_NS, SECRETS, LittleBroker, LittleCell, MakeBroker
from tests.little_tee import CONFIG, MEASUREMENT, snp_tee

KNOWN = SnpLaunchDigest(MEASUREMENT)
OTHER = SnpLaunchDigest(b"\x01" * 48)
SOFTHSM = next(
    (
        path
        for path in (Path("/usr/lib/softhsm/libsofthsm2.so"), Path("/usr/lib64/pkcs11/libsofthsm2.so"))
        if path.exists()
    ),
    None,
)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgres, postgres.NEEDED])])
def little(request: pytest.FixtureRequest, tmp_path: Path, make_broker: MakeBroker) -> Iterator[LittleBroker]:
    if request.param == "sqlite":
        yield make_broker(tmp_path)
        return
    with postgres.cluster() as url:
        little = make_broker(tmp_path, url=url)
        yield little
        little.store.close()


def released(little: LittleBroker) -> None:
    cell = LittleCell(snp_tee()).admitted(little.broker)
    assert cell.open(cell.fetch(little.broker, MODEL_KEY), little.public)[1] == SECRETS[MODEL_KEY]


def test_releases_and_administration_leave_a_log_that_holds(little: LittleBroker) -> None:
    released(little)
    add_release(little.store, Release("p", OTHER, MODEL_ROOT, CONFIG, ReleaseState.PROPOSED), NOW_NS)
    set_release(little.store, "p", ReleaseState.APPROVED, NOW_NS)
    revoke(little.store, RevocationKind.CHIP, b"\x02" * 64, NOW_NS)
    add_secret(
        little.store, little.wrapping, MODEL_KEY, Secret(b"n" * 32), model_root=MODEL_ROOT, now_ns=NOW_NS, rotate=True
    )
    forget_secret(little.store, "default/resource/greeting", NOW_NS)
    little.again()
    kinds = [entry.kind for entry in little.entries()]
    assert kinds == [
        "began",
        "release-added",
        *["secret-added"] * 3,
        "started",
        "admitted",
        "granted",
        "release-added",
        "release-changed",
        "revoked",
        "secret-rotated",
        "secret-revoked",
        "started",
    ]
    assert little.audit() == len(kinds)


EDITS = {
    "update releases_by_height set state='approved'": "log.releases",
    "delete from releases_by_height": "log.releases",
    "delete from secrets": "log.secrets",
    "update secrets set wrapped=null": "log.secrets",
    "delete from grants": "log.grants",
    "delete from revocations": "log.revocations",
    "delete from log where position=3": "log.chain",
    "delete from log where position=(select max(position) from log)": "log.head",
    "delete from log": "log.head",
    "update log set position=position+100 where position=2": "log.chain",
    "update head set position=position+1": "log.head",
    "update log set signature=(select signature from log where position=1) where position=4": "log.signature",
    "update log set entry=(select entry from log where position=1) where position=4": "log.chain",
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_is_changed_behind_the_logs_back_is_found(little: LittleBroker, edit: str) -> None:
    add_release(little.store, Release("p", OTHER, MODEL_ROOT, CONFIG, ReleaseState.PROPOSED), NOW_NS)
    revoke(little.store, RevocationKind.CHIP, b"\x02" * 64, NOW_NS)
    released(little)
    with little.store.engine.begin() as connection:
        connection.execute(sa.text(edit))
    with pytest.raises(LogRefused) as caught:
        little.audit()
    assert caught.value.code == EDITS[edit]


def test_every_bit_of_an_entry_counts(tmp_path: Path, make_broker: MakeBroker) -> None:
    little = make_broker(tmp_path)
    with little.store.change() as change:
        entries = list(change.entries())
    public = little.keys.public
    head = chain.verify(entries, public)
    raw, signature = entries[2]
    for bit in range(8 * len(raw)):
        bent = bytearray(raw)
        bent[bit // 8] ^= 1 << bit % 8
        with pytest.raises(LogRefused):
            chain.verify([*entries[:2], (bytes(bent), signature), *entries[3:]], public)
    with pytest.raises(LogRefused):
        chain.verify(entries[:-1], public, [head])
    with pytest.raises(LogRefused):
        chain.verify(entries, public, [chain.Head(2, bytes(32))])
    with pytest.raises(LogRefused):
        chain.verify(entries, make_broker(_made(tmp_path)).keys.public)
    assert chain.verify(entries, public, [head]) == head


def _made(folder: Path) -> Path:
    (folder / "other").mkdir()
    return folder / "other"


def test_a_change_that_is_refused_leaves_no_entry(little: LittleBroker) -> None:
    before = little.entries()
    for change in (
        lambda: add_release(little.store, Release("q", KNOWN, MODEL_ROOT, CONFIG, ReleaseState.APPROVED), 1),
        lambda: set_release(little.store, "nothing", ReleaseState.APPROVED, 1),
        lambda: add_secret(little.store, little.wrapping, MODEL_KEY, Secret(b"x"), model_root=MODEL_ROOT, now_ns=1),
        lambda: add_secret(little.store, little.wrapping, "a/model-key/b", Secret(b"x"), model_root=b"", now_ns=1),
        lambda: add_secret(little.store, little.wrapping, "a/b/c", Secret(b"x"), model_root=b"", now_ns=1, rotate=True),
        lambda: add_secret(little.store, little.wrapping, "../b/c", Secret(b"x"), model_root=b"", now_ns=1),
        lambda: forget_secret(little.store, "a/b/none", 1),
        lambda: revoke(little.store, RevocationKind.CHIP, b"", 1),
    ):
        with pytest.raises(StoreRefused):
            change()
    assert little.entries() == before


def test_no_secret_is_in_the_store_or_the_log(tmp_path: Path, make_broker: MakeBroker) -> None:
    little = make_broker(tmp_path)
    released(little)
    little.store.close()
    everything = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    for raw in [*SECRETS.values(), KEK.reveal()]:
        assert raw not in everything


def test_a_store_that_is_not_there_is_not_made_by_opening(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused):
        Store.open(f"sqlite:///{tmp_path}/none.db")
    for url in ("", "mysql://x", "sqlite", f"sqlite:///{tmp_path}/no/such/folder/x.db"):
        with pytest.raises(StoreRefused):
            Store.open(url, create=True)


def test_wrapping(tmp_path: Path) -> None:
    wrapping = SoftwareWrapping(KEK)
    _wraps(wrapping)
    with pytest.raises(WrapRefused):
        SoftwareWrapping(Secret(b"k" * 32)).unwrap(wrapping.wrap(Secret(b"s"), b"n"), b"n")
    path = tmp_path / "kek"
    path.write_bytes(KEK.reveal())
    path.chmod(0o644)
    with pytest.raises(WrapRefused):
        open_wrapping(f"file:{path}", {})
    path.chmod(0o600)
    held = wrapping.wrap(Secret(b"s"), b"n")
    assert open_wrapping(f"file:{path}", {}).unwrap(held, b"n").reveal() == b"s"
    assert open_wrapping("env:KEK", {"KEK": KEK.reveal().hex()}).unwrap(held, b"n").reveal() == b"s"
    for setting in ("env:OTHER", "file:/none", "pkcs11:x", "vault:x", ""):
        with pytest.raises(WrapRefused):
            open_wrapping(setting, {})


def _wraps(wrapping: SoftwareWrapping | TokenWrapping) -> None:
    held = wrapping.wrap(Secret(b"a key"), b"its name")
    assert b"a key" not in held
    assert wrapping.wrap(Secret(b"a key"), b"its name") != held
    assert wrapping.unwrap(held, b"its name").reveal() == b"a key"
    for at in range(len(held)):
        with pytest.raises(WrapRefused):
            wrapping.unwrap(held[:at] + bytes([held[at] ^ 1]) + held[at + 1 :], b"its name")
    for other, name in ((held, b"another name"), (held[:-1], b"its name"), (b"", b"its name")):
        with pytest.raises(WrapRefused):
            wrapping.unwrap(other, name)


@pytest.mark.softhsm
@pytest.mark.skipif(SOFTHSM is None or shutil.which("softhsm2-util") is None, reason="SoftHSM is not installed")
def test_wrapping_on_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pkcs11 = pytest.importorskip("pkcs11")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path / 'tokens'}\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    making = ["softhsm2-util", "--init-token", "--free", "--label", "broker", "--pin", "1234", "--so-pin", "5678"]
    subprocess.run(making, check=True, stdout=subprocess.DEVNULL)
    token = pkcs11.lib(str(SOFTHSM)).get_token(token_label="broker")
    with token.open(user_pin="1234", rw=True) as session:
        session.generate_key(
            pkcs11.KeyType.AES,
            256,
            label="kek",
            store=True,
            template={pkcs11.Attribute.SENSITIVE: True, pkcs11.Attribute.EXTRACTABLE: False},
        )
    setting = f"pkcs11:{SOFTHSM}?token=broker&key=kek&pin-env=PIN"
    wrapping = open_wrapping(setting, {"PIN": "1234"})
    assert isinstance(wrapping, TokenWrapping)
    _wraps(wrapping)
    wrapping.close()
    with pytest.raises(WrapRefused):
        open_wrapping(setting, {"PIN": "9999"})
    with pytest.raises(WrapRefused):
        open_wrapping(setting.replace("key=kek", "key=none"), {"PIN": "1234"})


def test_rates_are_bounded() -> None:
    limits = RateLimits(Rate(2, 1), Rate(1000, 1000), 0.0)
    assert [limits.allows("a", 0.0) for _ in range(3)] == [True, True, False]
    assert limits.allows("b", 0.0)
    assert limits.allows("a", 1.0)
    assert not limits.allows("a", 1.0)
    for number in range(2 * ADDRESSES_MAX):
        limits.allows(str(number), 2.0)
    assert len(limits._addresses) <= ADDRESSES_MAX
    together = RateLimits(Rate(9, 9), Rate(3, 1), 0.0)
    assert [together.allows(str(n), 0.0) for n in range(4)] == [True, True, True, False]


def test_keys_come_back_only_under_their_wrapping(tmp_path: Path, make_broker: MakeBroker) -> None:
    little = make_broker(tmp_path)
    assert load_keys(little.store, little.wrapping).public == little.keys.public
    with pytest.raises(WrapRefused):
        load_keys(little.store, SoftwareWrapping(Secret(os.urandom(32))))
    assert audit(little.store, little.keys.public).position > 0
