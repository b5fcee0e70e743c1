"""What we encode for voters decodes to the same with the SDK's Candid and the SNS's own interface.

Needs Node and npm, which brings the SDK; else it says that it skips.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from attestation.adoption import GET_PROPOSAL_RESPONSE, get_proposal_argument
from foundation.candid import decode
from measurements.governance.actions import Adopt, AmendCharter, Payload, RevokeChips, RotateKey, Withdraw
from measurements.governance.authority import Chain
from measurements.governance.charter import Charter, Member
from measurements.governance.history import Ledger
from measurements.governance.proposal import Proposal
from tests.node_packages import fetched
from tests.releases import digest, made_manifest

pytestmark = pytest.mark.node
FOLDER = Path(__file__).resolve().parents[4] / "governance"
ACTIONS = (
    Adopt(made_manifest()),
    Adopt(made_manifest(last=500)),
    Withdraw("0.1.0", digest("m"), "it leaks"),
    RevokeChips((bytes(8), b"\x01" * 64), "extracted seeds"),
    RotateKey("default/model-key/tiny", 2, "a backup was lost"),
    AmendCharter(Charter("keepers", 1, (Member("one", digest("k")),))),
)


@pytest.fixture(scope="module")
def second_opinion() -> dict[str, Any]:
    cases = [{"of": "payload", "hex": Payload(3, digest("p"), action).encode().hex()} for action in ACTIONS]
    cases.append({"of": "manage_neuron", "hex": _proposal().manage_neuron(b"\x07" * 32).hex()})
    cases.append({"of": "get_proposal", "hex": get_proposal_argument(42).hex()})
    fetched(FOLDER)
    done = subprocess.run(
        ["node", "candid.mjs"], cwd=FOLDER, input=json.dumps(cases).encode(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _proposal() -> Proposal:
    return Proposal.of(Ledger.begin(Chain(bytes(96), b"\x01", "get_proposal", 1_000)), Adopt(made_manifest()))


def _fields(action: object) -> dict[str, object]:
    match action:
        case Adopt(manifest):
            return {"adopt": {"manifest": manifest.encode().decode()}}
        case Withdraw(version, manifest, reason):
            return {"withdraw": {"version": version, "manifest": manifest.hex(), "reason": reason}}
        case RevokeChips(chips, reason):
            return {"revoke_chips": {"chips": [chip.hex() for chip in chips], "reason": reason}}
        case RotateKey(resource, least, reason):
            return {"rotate_key": {"resource": resource, "least_version": str(least), "reason": reason}}
        case AmendCharter(charter):
            return {"amend_charter": {"charter": charter.encode().decode()}}
    raise AssertionError(action)


def test_payloads_decode_identically(second_opinion: dict[str, Any]) -> None:
    """governance.md V4."""
    for action, found in zip(ACTIONS, second_opinion["decoded"], strict=False):
        assert found == {"format": "2", "position": "3", "previous": digest("p").hex(), "action": _fields(action)}


def test_the_submitted_bytes_are_what_an_sns_reads(second_opinion: dict[str, Any]) -> None:
    """governance.md V13."""
    proposal = _proposal()
    found, asked = second_opinion["decoded"][len(ACTIONS) :]
    [command] = found["command"]
    made = command["MakeProposal"]
    assert found["subaccount"] == "07" * 32
    assert made["summary"] == proposal.summary
    assert made["title"] == proposal.title
    [action] = made["action"]
    assert action == {
        "ExecuteGenericNervousSystemFunction": {"function_id": "1000", "payload": proposal.payload.encode().hex()}
    }
    assert asked == {"proposal_id": [{"id": "42"}]}


def test_a_full_reply_of_an_sns_is_read(second_opinion: dict[str, Any]) -> None:
    """governance.md V7: fields we do not use are read over, whatever their types."""
    [value] = decode([GET_PROPOSAL_RESPONSE], bytes.fromhex(second_opinion["reply"]))
    kind, data = value["result"]
    assert kind == "Proposal"
    assert data["id"] == {"id": 42}
    assert data["executed_timestamp_seconds"] == 1_700_000_000
    assert data["proposal"]["action"][1] == {"function_id": 1_000, "payload": b"anchorhold"}
