"""State in a folder: what a later process finds, after an orderly end and after `kill -9`."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from devnet.gateway import gateway_wasm
from devnet.replica import NO_ARGUMENTS, Network, Stage, numbered
from devnet.replica.kept import FILE, Kept, StateRefused
from tests.canisters import CALLEE, CALLER, OWNER, START_NS, Clock, randomness, request, two

ROUNDS_SEEN = 25


def again(folder: Path, clock: Clock | None = None) -> tuple[Kept, Network]:
    kept = Kept.open(folder)
    network = Network(clock=clock or Clock(), randomness=randomness)
    kept.restore(network)
    return kept, network


def everything(network: Network) -> object:
    """All that a network holds, for comparing."""
    canisters = {
        each.canister_id: (
            each.settings,
            each.cycles,
            each.status,
            each.version,
            each.certified_data,
            each.timer_ns,
            each.prints,
            each.stable.content(),
            each.chunks,
            each.stops,
            None
            if each.instance is None
            else (each.instance.memory_now(), each.instance.global_values, each.instance.code.digest),
        )
        for each in network.canisters.values()
    }
    return canisters, network.calls, network.contexts, network.ingress, network.requests, network.numbers


def test_a_network_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    clock = Clock()
    network = two(clock)
    kept = Kept.open(tmp_path / "state")
    network.canister(CALLEE).change(environment={"name": "value"}, controllers=frozenset({OWNER, CALLER}))
    network.submit(CALLEE, "in_a_second", b"", OWNER, request_id=b"1" * 32, expiry_ns=START_NS)
    calls = [
        network.submit(CALLER, how, request("take_600"), OWNER, request_id=bytes([number]) * 32)
        for number, how in enumerate(("ask_paid", "ask_10s", "ask"))
    ]
    # One whole run as it would be, and one that is saved and taken up again after every round.
    for _ in range(6):
        kept.save(network, clock())
        kept.close()
        kept, restored = again(tmp_path / "state", clock)
        assert everything(restored) == everything(network)
        network.round()
        restored.round()
        assert everything(restored) == everything(network)
        network = restored
    assert all(network.ingress[network.requests[call.request_id]].outcome is not None for call in calls)
    assert network.wakes_ns() == START_NS + 10**9
    kept.close()


def test_calls_that_are_open_are_answered_by_a_later_process(tmp_path: Path) -> None:
    network = two(Clock())
    for number in range(3):
        network.submit(CALLER, "ask_paid", request("wait"), OWNER, request_id=bytes([number]) * 32)
    network.round()
    network.round()
    assert {call.stage for call in network.calls.values()} == {Stage.OPEN, Stage.QUEUED}
    kept = Kept.open(tmp_path)
    kept.save(network, 1)
    kept.close()
    kept, restored = again(tmp_path)
    while restored.waiting():
        restored.round()
    for call in restored.ingress.values():
        assert int.from_bytes(call.reply()[32:48], "little") == 50
    assert restored.contexts == {}
    kept.close()


def test_a_gateway_is_taken_up_with_its_memory(tmp_path: Path) -> None:
    """A Motoko canister: kept main memory, globals, certified data."""
    gateway = numbered(5)
    network = Network(clock=Clock(), randomness=randomness)
    network.install(network.create(gateway, controllers={OWNER}), gateway_wasm(), NO_ARGUMENTS, OWNER)
    kept = Kept.open(tmp_path)
    kept.save(network, 1)
    kept.close()
    kept, restored = again(tmp_path)
    assert everything(restored) == everything(network)
    assert restored.query(gateway, "status", NO_ARGUMENTS) == network.query(gateway, "status", NO_ARGUMENTS)
    kept.close()


def test_pages_that_did_not_change_are_not_written(tmp_path: Path) -> None:
    network = two(Clock())
    kept = Kept.open(tmp_path)
    kept.save(network, 1)
    before = kept._db.total_changes
    kept.save(network, 2)
    assert kept._db.total_changes - before == 4  # the four numbers of the round
    before = kept._db.total_changes
    network.submit(CALLEE, "spent", b"", OWNER)
    network.round()
    kept.save(network, 3)
    assert kept._db.total_changes - before == 5  # and one page
    kept.close()


def test_a_canister_that_is_deleted_or_emptied_leaves_nothing(tmp_path: Path) -> None:
    network = two(Clock())
    kept = Kept.open(tmp_path)
    kept.save(network, 1)
    del network.canisters[CALLER]
    network.canister(CALLEE).uninstall()
    kept.save(network, 2)
    assert kept._db.execute("select count(*) from pages").fetchone() == (0,)
    kept.close()
    kept, restored = again(tmp_path)
    assert everything(restored) == everything(network)
    kept.close()


def test_the_folder_is_its_owners(tmp_path: Path) -> None:
    Kept.open(tmp_path / "state").close()
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "state" / FILE).stat().st_mode) == 0o600


def test_what_is_no_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"something else" * 100)
    with pytest.raises(StateRefused, match=r"devnet\.state: database"):
        Kept.open(tmp_path)


def test_a_state_of_another_format_is_refused(tmp_path: Path) -> None:
    Kept.open(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("update meta set value = 2 where name = 'format'")
    database.close()
    with pytest.raises(StateRefused, match="expected 1, got 2"):
        Kept.open(tmp_path)


_COUNTING = """
import sys
from pathlib import Path
from devnet.replica.kept import Kept
from tests.canisters import CALLEE, OWNER, Clock, two
network, kept, clock = two(Clock()), Kept.open(Path(sys.argv[1])), Clock()
for number in range(100_000):
    network.submit(CALLEE, "echo", str(number).encode(), OWNER, request_id=number.to_bytes(32, "big"), expiry_ns=1)
    network.round()
    kept.save(network, number)
    print(number, flush=True)
"""


def test_after_a_kill_every_round_that_was_told_is_there(tmp_path: Path) -> None:
    root = Path(__file__).parents[4]
    writer = subprocess.Popen(
        [sys.executable, "-c", _COUNTING, str(tmp_path)], stdout=subprocess.PIPE, cwd=root, text=True
    )
    assert writer.stdout is not None
    told = -1
    for line in writer.stdout:
        told = int(line)
        if told == ROUNDS_SEEN:
            os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    kept, network = again(tmp_path)
    for number in range(told + 1):
        call = network.ingress[network.requests[number.to_bytes(32, "big")]]
        assert call.reply() == str(number).encode()
    assert kept.time_ns >= told
    assert kept.rounds == kept.time_ns + 1
    kept.close()
