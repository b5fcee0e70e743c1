"""Releases against a broker process that is killed with SIGKILL at random moments, and the account of it afterwards.

    report = bombard(folder, url, releases=1000, kills=40, seed=1)

Clients run side by side in threads and know nothing of the kills but that a connection broke; they begin anew. After
the last kill the store is held against its log, and both against what the clients have in their hands.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import ssl
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from anchorhold.owner.broker_process import initialise, open_broker
from appliance.key_release import Attester, Begin, Brought, Carry, Releaser, Standing, State, Wanted
from attestation.broker.administration import add_release, add_secret
from attestation.broker.log import audit
from attestation.broker.session import Release
from attestation.decision_log.chain import Head
from attestation.decision_log.codec import Entry
from attestation.decision_log.words import ReleaseState
from attestation.rcar.grant import GrantContext, GrantPurpose
from attestation.rcar.messages import COOKIE
from devnet.broker import measurement_of
from devnet.tee import policy_document, reference_values
from foundation.secrecy import Secret
from tests.little_broker import MODEL_KEY, MODEL_ROOT
from tests.little_tee import CONFIG, KEYSET, snp_tee

ROOT = Path(__file__).resolve().parents[2]
THREADS = 4


@dataclass
class Account:
    """What happened: the grants in the clients' hands, and how often the broker died."""

    contexts: list[GrantContext] = field(default_factory=list)
    broken: int = 0
    kills: int = 0
    entries: int = 0
    logged: int = 0


class Process:
    """`anchorhold broker serve`, restarted whenever it was killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = 0
        self.up = threading.Event()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "anchorhold.command",
                "broker",
                "serve",
                "--config",
                str(self._folder / "broker.toml"),
            ],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            said = json.loads(line) if line.startswith("{") else {}
            if said.get("event") == "serving":
                self.port = said["port"]
                self.up.set()
                # What it says from here on is read and dropped, so that it never waits for us.
                self._draining = threading.Thread(target=self._drain)
                self._draining.start()
                return
        raise AssertionError(f"the broker did not start: status {self.process.wait()}")

    def kill(self) -> None:
        self.up.clear()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._draining.join()

    def _drain(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for _ in stream:
                pass


class Client:
    """A host's relay that gives up when the line breaks."""

    def __init__(self, process: Process, context: ssl.SSLContext) -> None:
        self._process, self._context = process, context
        self._connection: http.client.HTTPSConnection | None = None
        self._cookie = ""

    def __call__(self, carry: Carry) -> tuple[int, bytes]:
        try:
            if self._connection is None:
                self._connection = http.client.HTTPSConnection(
                    "localhost", self._process.port, context=self._context, timeout=30
                )
            self._connection.request(
                carry.method,
                f"/kbs/v0/{carry.path}",
                carry.body,
                {"cookie": f"{COOKIE}={self._cookie}"} if self._cookie else {},
            )
            response = self._connection.getresponse()
            for value in response.headers.get_all("set-cookie") or []:
                self._cookie = value.partition(";")[0].partition("=")[2]
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return 0, b""

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def prepare(folder: Path, url: str) -> None:
    """A broker for the simulated machine, with one key, as an operator would set it up."""
    tee = snp_tee()
    folder.mkdir()
    (folder / "policy.toml").write_bytes(policy_document(tee))
    chip = next(iter(reference_values(tee).allowed("snp.chip_id")))
    (folder / "references.toml").write_text(f'[snp]\nchip_id = ["{chip.hex()}"]\n')
    (folder / "root.der").write_bytes(tee.root.der)
    initialise(folder, store=url, wrapping="file:kek", policy="policy.toml")
    config = folder / "broker.toml"
    config.write_text(
        config.read_text().replace(":8443", ":0") + 'simulated_root = "root.der"\nrequests_per_second = 100000\n'
    )
    opened = open_broker(config)
    add_release(opened.store, Release("r", measurement_of(tee), MODEL_ROOT, CONFIG, ReleaseState.APPROVED), 1)
    add_secret(opened.store, opened.wrapping, MODEL_KEY, Secret(b"k" * 32), model_root=MODEL_ROOT, now_ns=1)
    opened.store.close()


def bombard(folder: Path, *, releases: int, kills: int, seed: int) -> Account:
    """Until so many releases were completed and so many kills were made."""
    opened = open_broker(folder / "broker.toml")
    wanted = Wanted(opened.keys.public, MODEL_KEY, GrantPurpose.MODEL, MODEL_ROOT)
    process, account, chance = Process(folder), Account(), random.Random(seed)
    context = ssl.create_default_context(cafile=str(folder / "tls.pem"))
    done, turn, next_kill = threading.Event(), threading.Lock(), threading.Event()
    steps = [0]
    apart = max(2, 3 * releases // max(kills, 1))
    due = [chance.randrange(1, apart)]

    def step() -> None:
        """Called before every message: kills fall on messages, not on moments, so load decides nothing."""
        with turn:
            steps[0] += 1
            if steps[0] >= due[0]:
                next_kill.set()

    def work() -> None:
        tee = snp_tee()
        while not done.is_set():
            process.up.wait()
            cell, client = Releaser(wanted, Attester(tee, KEYSET, CONFIG)), Client(process, context)
            said = cell.respond(Begin())
            while isinstance(said, Carry):
                step()
                status, body = client(said)
                said = cell.respond(Brought(said.number, status, body))
            client.close()
            assert isinstance(said, Standing)
            with turn:
                if said.state is State.HAS_KEY and cell.held is not None:
                    account.contexts.append(cell.held.context)
                else:
                    assert said.failure == "broker.unreachable", said.failure
                    account.broken += 1
                if len(account.contexts) >= releases and account.kills >= kills:
                    done.set()
                    next_kill.set()

    process.start()
    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    seen: list[Head] = []
    while not done.is_set():
        next_kill.wait()
        next_kill.clear()
        if account.kills < kills and not done.is_set():
            threading.Event().wait(chance.random() * 0.03)  # anywhere inside a message, not always at its start
            process.kill()
            account.kills += 1
            seen.append(audit(opened.store, opened.keys.public, seen))
            process.start()
            with turn:
                due[0] = steps[0] + chance.randrange(1, apart)
    for thread in threads:
        thread.join()
    process.kill()
    account.kills += 1
    settle(opened.store, opened.keys.public, account, seen)
    opened.store.close()
    return account


def settle(store: object, public: bytes, account: Account, seen: list[Head]) -> None:
    """Log and store agree; nothing that was seen is gone; every key in a client's hands has its entry."""
    from attestation.broker.store import Store

    assert isinstance(store, Store)
    head = audit(store, public, seen)
    with store.change() as change:
        entries = {entry.position: entry for raw, _ in change.entries() for entry in [Entry.parse(raw)]}
    account.entries = head.position
    granted = {position for position, entry in entries.items() if entry.kind == "granted"}
    account.logged = len(granted)
    for context in account.contexts:
        assert context.position in granted
        assert entries[context.position].digest == context.decision
        assert entries[context.position].details["nonce"] == context.nonce
    assert len({context.position for context in account.contexts}) == len(account.contexts)
