"""key-release.md R20, R21: a broker killed at any point leaves no grant unlogged and loses no entry. The
number of releases is ANCHORHOLD_RELEASES (docs/testing.md; the full figure is 1,000).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import postgres
from tests.simulation.broker_under_fire import Account, bombard, prepare
from tests.switches import sized

RELEASES = sized("ANCHORHOLD_RELEASES")
KILLS = max(3, RELEASES // 25)


def fire(folder: Path, url: str) -> Account:
    prepare(folder, url)
    account = bombard(folder, releases=RELEASES, kills=KILLS, seed=RELEASES)
    print(
        f"{len(account.contexts)} keys received, {account.logged} granted in the log, {account.entries} entries, "
        f"{account.kills} kills, {account.broken} attempts broken"
    )
    assert len(account.contexts) >= RELEASES
    assert account.kills >= KILLS
    return account


@pytest.mark.sized
@pytest.mark.slow
def test_sqlite_under_fire(tmp_path: Path) -> None:
    fire(tmp_path / "broker", "sqlite:///broker.db")


@pytest.mark.sized
@pytest.mark.slow
@pytest.mark.postgres
@postgres.NEEDED
def test_postgresql_under_fire(tmp_path: Path) -> None:
    with postgres.cluster() as url:
        fire(tmp_path / "broker", url)
    assert not (tmp_path / "broker" / "broker.db").exists()
