"""A governance canister's word that a proposal executed: the certified reply of an update call, and nothing less.

    executed = executed_reply(reply, chain)         for measurements.governance.history

The reply is that of the canister, method and argument the authority names, because the request id is computed again
from them (certificates.md K11); its certificate leads to the authority's root key; it speaks of the proposal that was
asked for; the proposal executed and did not fail; and it is the one generic function that is ours. The interface is
that of the SNS governance canister, of which the fields used here are written down below; what else a reply holds is
read over.

Not established: that the canister's code counts votes as one thinks. Its controllers, an SNS root, can change that.
"""

from __future__ import annotations

from typing import Any, Final

from attestation.consensus.certificate import parse_certificate, verify_certificate
from attestation.consensus.request_id import UpdateCall, certified_reply
from foundation.candid import BLOB, INT32, NAT64, TEXT, CandidRefused, Opt, Record, Type, Variant, decode, encode
from foundation.refusal import shown
from measurements.governance.authority import Chain
from measurements.governance.decision import CertifiedReply
from measurements.governance.errors import AuthorityRefused
from measurements.governance.history import Executed

REPLY_BYTES_MAX: Final = 2 << 20

PROPOSAL_ID: Final = Record({"id": NAT64})
GET_PROPOSAL: Final = Record({"proposal_id": Opt(PROPOSAL_ID)})
GENERIC: Final = "ExecuteGenericNervousSystemFunction"
GENERIC_FUNCTION: Final = Record({"function_id": NAT64, "payload": BLOB})
_PROPOSAL: Final = Record(
    {"title": TEXT, "url": TEXT, "summary": TEXT, "action": Opt(Variant({GENERIC: GENERIC_FUNCTION}))}
)
_DATA: Final = Record(
    {
        "id": Opt(PROPOSAL_ID),
        "proposal": Opt(_PROPOSAL),
        "decided_timestamp_seconds": NAT64,
        "executed_timestamp_seconds": NAT64,
        "failed_timestamp_seconds": NAT64,
    }
)
_ERROR: Final = Record({"error_message": TEXT, "error_type": INT32})
GET_PROPOSAL_RESPONSE: Final = Record({"result": Opt(Variant({"Error": _ERROR, "Proposal": _DATA}))})


def get_proposal_argument(proposal: int) -> bytes:
    """What the governance canister is asked."""
    return encode([GET_PROPOSAL], [{"proposal_id": {"id": proposal}}])


def executed_reply(reply: CertifiedReply, chain: Chain) -> Executed:
    """The executed proposal. Raises `ConsensusRefused` for the certificate, `AuthorityRefused` for what it says."""
    certificate = parse_certificate(reply.certificate)
    verified = verify_certificate(certificate, root_key=chain.root_key, canister=chain.canister)
    call = UpdateCall(chain.canister, chain.method, reply.argument, reply.sender, reply.expiry_ns, reply.nonce)
    raw = certified_reply(verified, call)
    if len(raw) > REPLY_BYTES_MAX:
        raise AuthorityRefused("authority.reply", expected=f"at most {REPLY_BYTES_MAX} bytes", got=len(raw))
    asked = _decoded(GET_PROPOSAL, reply.argument)["proposal_id"]
    data = _data(_decoded(GET_PROPOSAL_RESPONSE, raw))
    if asked is None or data["id"] != asked:
        raise AuthorityRefused("authority.proposal", expected="the proposal that was asked for", got=f"{data['id']}")
    if not data["executed_timestamp_seconds"] or data["failed_timestamp_seconds"]:
        raise AuthorityRefused("authority.status", expected="executed", got=_status(data))
    return Executed(asked["id"], _payload(data, chain.function), verified.time_ns)


def _data(response: Any) -> dict[str, Any]:
    match response["result"]:
        case ("Proposal", dict() as data):
            return data
        case ("Error", dict() as error):
            said = f"error {error['error_type']}: {shown(error['error_message'])}"
        case _:
            said = "no proposal and no error"
    raise AuthorityRefused("authority.proposal", expected="a proposal", got=said)


def _payload(data: dict[str, Any], function: int) -> bytes:
    match data["proposal"]:
        case {"action": (_, {"function_id": int(found), "payload": bytes(payload)})}:
            if found != function:
                raise AuthorityRefused("authority.function", expected=function, got=found)
            return payload
        case _:
            raise AuthorityRefused("authority.action", expected="a generic function of ours", got="none")


def _status(data: dict[str, Any]) -> str:
    if data["failed_timestamp_seconds"]:
        return "failed"
    return "decided, not executed" if data["decided_timestamp_seconds"] else "open"


def _decoded(of: Type, raw: bytes) -> Any:
    try:
        [value] = decode([of], raw)
    except CandidRefused as refusal:
        raise AuthorityRefused("authority.candid", expected=refusal.expected, got=refusal.got) from refusal
    return value
