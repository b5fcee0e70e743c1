"""What the devnet's subnet certifies of a network, and what its one node signs.

    certifier = Certifier(seed)
    certifier.root_key                                      DER, as clients want it
    certifier.certificate(network, paths, time_ns, layout)  the state tree, pruned to these paths
    certifier.signed(request_id, response, time_ns)         the answer to a query, signed by the node

Keys come from a seed. There is no consensus and no threshold: one process holds the root's key, the subnet's and the
node's. Clients that were given this root key believe it; no others do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha224, sha256
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.consensus.request_id import Field, representation_independent_hash
from devnet.replica.canister import Canister
from devnet.replica.messages import Call, Rejection
from devnet.replica.module import PRIVATE, PUBLIC
from devnet.replica.network import Network
from devnet.statetree import Path, Tree, uleb128
from devnet.subnet import DER_PREFIX, EVERYWHERE, SELF_AUTHENTICATING, RangesLayout, Subnet
from foundation import cbor
from foundation.digests import domain

ED25519_DER: Final = bytes.fromhex("302a300506032b6570032100")
ERROR_CODES: Final = {1: "IC0515", 2: "IC0207", 3: "IC0301", 4: "IC0406", 5: "IC0503", 6: "IC0203"}


def error_code(rejection: Rejection) -> str:
    """A code of the Internet Computer's for this kind of reject; clients show it, and some branch on it."""
    return ERROR_CODES[int(rejection.code)]


class Certifier:
    def __init__(self, seed: bytes) -> None:
        self._subnets: Final = {layout: Subnet(seed, layout=layout, ranges=EVERYWHERE) for layout in RangesLayout}
        one = self._subnets[RangesLayout.SHARDED]
        self.subnet_id: Final = one.subnet_id
        self.root_key: Final = DER_PREFIX + one.root_key
        self.raw_root_key: Final = one.root_key
        self._subnet_key: Final = DER_PREFIX + one.subnet_key
        self._node: Final = Ed25519PrivateKey.from_private_bytes(sha256(b"devnet node" + seed).digest())
        self._node_key: Final = ED25519_DER + self._node.public_key().public_bytes_raw()
        self.node_id: Final = sha224(self._node_key).digest() + SELF_AUTHENTICATING

    def state(self, network: Network) -> dict[bytes, Tree]:
        """The whole state tree but for its time."""
        [(low, high)] = EVERYWHERE
        ranges = cbor.encode(cbor.Tag(cbor.SELF_DESCRIBED, [[low, high]]))
        subnet: dict[bytes, Tree] = {
            b"public_key": self._subnet_key,
            b"canister_ranges": ranges,
            b"type": b"application",
            b"node": {self.node_id: {b"public_key": self._node_key}},
        }
        return {
            b"canister": {each.canister_id: _canister(each) for each in network.canisters.values()},
            b"canister_ranges": {self.subnet_id: {low: ranges}},
            b"request_status": {
                request: _status(network.ingress[number]) for request, number in network.requests.items()
            },
            b"subnet": {self.subnet_id: subnet},
        }

    def certificate(
        self, network: Network, paths: Sequence[Path], time_ns: int, layout: RangesLayout = RangesLayout.SHARDED
    ) -> bytes:
        return self._subnets[layout].certificate(self.state(network), paths, time_ns)

    def signed(self, request_id: bytes, response: Mapping[str, Any], time_ns: int) -> dict[str, Any]:
        """`response` with the node's signature over it."""
        fields: dict[str, Field] = {**response, "request_id": request_id, "timestamp": time_ns}
        signature = self._node.sign(domain("ic-response") + representation_independent_hash(fields))
        return {**response, "signatures": [{"timestamp": time_ns, "signature": signature, "identity": self.node_id}]}


def _canister(canister: Canister) -> Tree:
    controllers: list[cbor.Encodable] = [*sorted(canister.settings.controllers)]
    state: dict[bytes, Tree] = {
        b"certified_data": canister.certified_data,
        b"controllers": cbor.encode(cbor.Tag(cbor.SELF_DESCRIBED, controllers)),
    }
    if (code := canister.code) is not None:
        state[b"module_hash"] = code.digest
        state[b"metadata"] = {
            name.removeprefix(prefix).encode(): content
            for name, content in code.reachable.custom_sections.items()
            for prefix in (PUBLIC, PRIVATE)
            if name.startswith(prefix)
        }
    return state


def _status(call: Call) -> Tree:
    match call.outcome:
        case None:
            return {b"status": b"processing" if call.started else b"received"}
        case bytes() as reply:
            return {b"status": b"replied", b"reply": reply}
        case Rejection() as rejection:
            return {
                b"status": b"rejected",
                b"reject_code": uleb128(int(rejection.code)),
                b"reject_message": rejection.message.encode(),
                b"error_code": error_code(rejection).encode(),
            }
