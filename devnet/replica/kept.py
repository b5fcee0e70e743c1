"""A network's state in a folder, one transaction a round: after `kill -9` the last complete round is still there.

    kept = Kept.open(folder)
    kept.restore(network)           what an earlier process saved, if anything
    kept.save(network, now_ns)      all that changed since

Of a canister's memory the pages that changed are written; everything else that changed is written whole. Rows are
CBOR. SQLite's write-ahead log makes a round atomic against the end of the process; `synchronous = NORMAL` leaves the
newest rounds to the operating system, so a loss of power may take those, never half of one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Final

from devnet.replica import rows
from devnet.replica.canister import Canister
from devnet.replica.instance import Instance, take_up
from devnet.replica.network import Network
from devnet.replica.stable import PAGE_BYTES, StableMemory
from foundation import private_files
from foundation.refusal import Refused

FILE: Final = "state.sqlite"
FORMAT: Final = 1
_MAIN, _STABLE = 0, 1
_TABLES: Final = """
create table if not exists meta (name text primary key, value) without rowid;
create table if not exists modules (digest blob primary key, wasm blob not null, compiled blob not null);
create table if not exists canisters (id blob primary key, entry blob not null) without rowid;
create table if not exists pages (
    id blob not null, kind integer not null, number integer not null, content blob not null,
    primary key (id, kind, number));
create table if not exists calls (number integer primary key, entry blob not null);
create table if not exists contexts (number integer primary key, entry blob not null);
create table if not exists ingress (number integer primary key, entry blob not null);
"""


class StateRefused(Refused):
    """A folder that holds no state of this devnet's."""

    stage = "devnet.state"


class Kept:
    def __init__(self, database: sqlite3.Connection) -> None:
        self._db: Final = database
        self._saved: Final[dict[str, dict[object, bytes]]] = {
            name: {} for name in ("canisters", "calls", "contexts", "ingress")
        }
        self._modules: Final[dict[bytes, bytes]] = {}  # canister -> digest of the module that its pages belong to
        self.rounds = self.number("rounds")
        self.time_ns = self.number("time_ns")

    @classmethod
    def open(cls, folder: Path) -> Kept:
        private_files.folder(folder)
        path = folder / FILE
        private_files.database(path, create=True)
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            database.execute("pragma journal_mode = wal")
            database.execute("pragma synchronous = normal")
            database.executescript(_TABLES)
            kept = cls(database)
            found = kept._meta("format", FORMAT)
        except sqlite3.DatabaseError as broken:
            database.close()
            raise StateRefused("database", expected=f"a state of a devnet in {path}", got=str(broken)) from None
        if found != FORMAT:
            database.close()
            raise StateRefused("format", expected=FORMAT, got=found)
        return kept

    def close(self) -> None:
        self._db.close()

    # ---- a few values that are set once

    def _meta(self, name: str, default: object) -> object:
        self._db.execute("insert or ignore into meta values (?, ?)", (name, default))
        [value] = self._db.execute("select value from meta where name = ?", (name,)).fetchone()
        return value

    def number(self, name: str, default: int = 0) -> int:
        return int(str(self._meta(name, default)))

    def text(self, name: str, default: str) -> str:
        """What was first said under this name, here or in an earlier process."""
        return str(self._meta(name, default))

    # ---- saving

    def save(self, network: Network, time_ns: int) -> None:
        """Everything that changed, in one transaction."""
        self._db.execute("begin immediate")
        try:
            self._save(network, time_ns)
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")
        self.rounds += 1
        self.time_ns = time_ns

    def _save(self, network: Network, time_ns: int) -> None:
        for name, value in (
            ("rounds", self.rounds + 1),
            ("time_ns", time_ns),
            ("numbers", network.numbers),
            ("created", network.created),
        ):
            self._db.execute("insert or replace into meta values (?, ?)", (name, value))
        for canister in network.canisters.values():
            self._save_memory(canister)
        self._replace("canisters", ((each.canister_id, rows.of_canister(each)) for each in network.canisters.values()))
        self._replace("calls", ((each.number, rows.of_call(each)) for each in network.calls.values()))
        self._replace("contexts", ((each.number, rows.of_context(each)) for each in network.contexts.values()))
        self._replace("ingress", ((number, rows.of_ingress(each)) for number, each in network.ingress.items()))

    def _replace(self, table: str, entries: Iterable[tuple[object, bytes]]) -> None:
        """The table has these rows and no others afterwards; rows that are as they were are not written."""
        key = "id" if table == "canisters" else "number"
        before, now = self._saved[table], dict(entries)
        self._db.executemany(
            f"insert or replace into {table} values (?, ?)",  # noqa: S608  # a name of ours
            [(number, entry) for number, entry in now.items() if before.get(number) != entry],
        )
        gone = [(number,) for number in before if number not in now]
        self._db.executemany(f"delete from {table} where {key} = ?", gone)  # noqa: S608
        if table == "canisters":
            self._db.executemany("delete from pages where id = ?", gone)
            for (canister_id,) in gone:
                self._modules.pop(canister_id, None)  # type: ignore[call-overload]
        self._saved[table] = now

    def _save_memory(self, canister: Canister) -> None:
        code = canister.code
        digest = code.digest if code is not None else b""
        if self._modules.get(canister.canister_id) != digest:
            self._modules[canister.canister_id] = digest
            if code is not None:
                self._db.execute(
                    "insert or replace into modules values (?, ?, ?)", (digest, code.installed, code.compiled)
                )
        main_bytes = canister.instance.memory_bytes if canister.instance is not None else 0
        main = canister.instance.take_unsaved() if canister.instance is not None else {}
        self._save_pages(canister.canister_id, _MAIN, main, main_bytes // PAGE_BYTES)
        self._save_pages(canister.canister_id, _STABLE, canister.stable.take_unsaved(), canister.stable.pages)

    def _save_pages(self, canister_id: bytes, kind: int, changed: dict[int, bytes], count: int) -> None:
        self._db.executemany(
            "insert or replace into pages values (?, ?, ?, ?)",
            [(canister_id, kind, number, content) for number, content in changed.items()],
        )
        if changed or count == 0:
            self._db.execute("delete from pages where id = ? and kind = ? and number >= ?", (canister_id, kind, count))

    # ---- restoring

    def restore(self, network: Network) -> None:
        """Into a network that is empty."""
        network.numbers = self.number("numbers")
        network.created = self.number("created", network.created)
        for name in self._saved:
            key = "id" if name == "canisters" else "number"
            self._saved[name] = dict(self._db.execute(f"select {key}, entry from {name} order by 1"))  # noqa: S608
        for canister_id, entry in self._saved["canisters"].items():
            if isinstance(canister_id, bytes):
                self._restore_canister(network, canister_id, entry)
        for entry in self._saved["calls"].values():
            call = rows.to_call(entry)
            network.calls[call.number] = call
        for entry in self._saved["contexts"].values():
            context = rows.to_context(entry)
            network.contexts[context.number] = context
        for number, entry in self._saved["ingress"].items():
            outside = rows.to_ingress(entry)
            network.ingress[int(str(number))] = outside
            if outside.request_id:
                network.requests[outside.request_id] = int(str(number))

    def _restore_canister(self, network: Network, canister_id: bytes, entry: bytes) -> None:
        canister = network.create(canister_id)
        digest, global_values = rows.to_canister(entry, canister)
        self._modules[canister_id] = digest
        canister.stable = StableMemory(self._pages(canister_id, _STABLE))
        canister.stable.take_unsaved()
        if not digest:
            return
        wasm, compiled = self._db.execute("select wasm, compiled from modules where digest = ?", (digest,)).fetchone()
        if sha256(wasm).digest() != digest:
            raise StateRefused("module", expected=digest.hex(), got=sha256(wasm).hexdigest())
        canister.instance = Instance(take_up(wasm, compiled), canister.api)
        canister.instance.restore(self._pages(canister_id, _MAIN), global_values)

    def _pages(self, canister_id: bytes, kind: int) -> bytes:
        found = self._db.execute(
            "select content from pages where id = ? and kind = ? order by number", (canister_id, kind)
        )
        return b"".join(content for (content,) in found)
