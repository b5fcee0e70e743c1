"""`anchorhold devnet up`: it answers, goes on after a signal and after `kill -9`, and says what it will not do."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.client import Expected, Taken, chat, open_plain
from anchorhold.host.gateway_client import Answered, proof_of
from anchorhold.host.gateway_client import chat as asked
from attestation.consensus.principal import from_text
from attestation.consensus.slices import SliceProof, verify_slice
from devnet import little_model
from devnet.demo.run import PRICE
from devnet.gateway import Gateway
from tests.devnet_up import COMMAND, Devnet, up

T = TypeVar("T")
SECONDS = 120


def until(what: Callable[[], T | None]) -> T:
    """What comes sooner or later; it is asked for again and again, as an app does."""
    end = time.monotonic() + SECONDS
    while (found := what()) is None:
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)
    return found


def answered(gateway: Gateway, caller: bytes, ticket: int) -> Callable[[], Answered | None]:
    def take() -> Answered | None:
        found = gateway.take_answer(caller, ticket)
        return found if isinstance(found, Answered) else None

    return take


def check(devnet: Devnet, caller: bytes, words: str, answer: Answered) -> None:
    """As an app does: each receipt is signed by its cell, and says that these bytes answered this request."""
    at = answer.position
    keys = {from_text(cell["reporter"]): bytes.fromhex(cell["receipt_key"]) for cell in devnet.line["cells"]}
    assert answer.signatures
    for reporter, signature in answer.signatures:
        taken = Taken(at.height, at.index, at.id, answer.answer, answer.receipt, signature)
        open_plain(
            taken,
            keys[reporter],
            Expected(price=PRICE),
            gateway=devnet.gateway_id,
            caller=caller,
            payload=chat(devnet.model, words).encode(),
        )


def ask(gateway: Gateway, caller: bytes, words: str) -> int:
    return gateway.submit_chat(caller, asked(little_model.NAME, ("user", {"content": words})))


def test_it_goes_on_after_a_kill_with_every_block_and_answer(tmp_path: Path) -> None:
    key, folder = Ed25519PrivateKey.generate(), tmp_path / "net"
    with up(folder, "--cells", "2") as first:
        app = first.agent(key)
        gateway, me = first.gateway(app), app.principal
        tickets = {words: ask(gateway, me, words) for words in ("one", "two", "three")}
        answers = {words: until(answered(gateway, me, ticket)) for words, ticket in tickets.items()}
        for words, answer in answers.items():
            check(first, me, words, answer)
        blocks = gateway.get_headers(1)
        late = ask(gateway, me, "asked just before the end")
        first.kill()
    with up(folder, "--cells", "2") as second:
        again = second.gateway(second.agent(key))
        assert {name: second.line[name] for name in ("root_key", "gateway", "governance", "folder")} == {
            name: first.line[name] for name in ("root_key", "gateway", "governance", "folder")
        }
        found = again.get_headers(1)
        assert found.encoded[: len(blocks.encoded)] == blocks.encoded
        for words, ticket in tickets.items():
            kept = again.take_answer(me, ticket)
            assert isinstance(kept, Answered)
            assert (kept.position, kept.answer, kept.receipt) == (
                answers[words].position,
                answers[words].answer,
                answers[words].receipt,
            )
        until(answered(again, me, late))  # accepted and certified before the end: still answered
        new = ask(again, me, "and after it")
        answer = until(answered(again, me, new))
        check(second, me, "and after it", answer)
        assert answer.position.height > blocks.head_height
        proof = SliceProof.parse(proof_of(again.get_headers(1)))
        proven = verify_slice(proof, root_key=second.root_key, canister=second.gateway_id)
        assert proven.head_link == again.status()["head_link"]
        # A second one in the same folder is refused, and so is another engine than the folder was made for.
        ended = subprocess.run([*COMMAND, "--folder", str(folder)], capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert "devnet.up: folder: expected a folder that no devnet runs in" in ended.stderr
    ended = subprocess.run(
        [*COMMAND, "--folder", str(folder), "--engine", "fixed"], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "devnet.up: folder: expected one that was made for" in ended.stderr


def test_a_model_of_ones_own_answers_on_the_real_engine(tmp_path: Path) -> None:
    little_model.write(tmp_path / "model")
    with up(tmp_path / "net", "--engine", "fixed", "--model", str(tmp_path / "model")) as devnet:
        app = devnet.agent(Ed25519PrivateKey.generate())
        gateway = devnet.gateway(app)
        answer = until(answered(gateway, app.principal, ask(gateway, app.principal, "Who are you?")))
        check(devnet, app.principal, "Who are you?", answer)
        assert answer.answer


def test_it_ends_when_a_cell_does(tmp_path: Path) -> None:
    with up(tmp_path / "net") as devnet:
        children = Path(f"/proc/{devnet.process.pid}/task/{devnet.process.pid}/children").read_text().split()
        cells = [int(pid) for pid in children if b"devnet.cell" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(cells) == 1
        os.kill(cells[0], signal.SIGKILL)
        assert devnet.process.wait(SECONDS) == 1


def test_its_cells_end_with_it(tmp_path: Path) -> None:
    with up(tmp_path / "net") as devnet:
        [cell] = Path(f"/proc/{devnet.process.pid}/task/{devnet.process.pid}/children").read_text().split()
        devnet.kill()
        until(lambda: None if Path(f"/proc/{cell}/cmdline").exists() and _runs(cell) else True)


def _runs(pid: str) -> bool:
    """Whether the process is more than a name that waits to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_model_that_is_none_is_refused(tmp_path: Path) -> None:
    command = [*COMMAND, "--folder", str(tmp_path / "net"), "--model", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "devnet.up: model: expected `little`, or a folder with a model and its card.json" in ended.stderr
