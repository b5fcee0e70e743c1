"""The Python agent `icp-py-core`, unmodified, against a devnet: python python_agent.py URL ROOT_KEY HELLO GATEWAY MODEL

One line of JSON on standard output. Run with this folder on PYTHONPATH, for `blst`.
"""

from __future__ import annotations

import json
import sys

import icp_certificate.certificate
from icp_agent import Agent, Client
from icp_candid.candid import Types, encode
from icp_core.errors import CertificateVerificationError, ReplicaReject
from icp_identity.identity import Identity

url, root_key, hello, gateway, model = sys.argv[1], bytes.fromhex(sys.argv[2]), *sys.argv[3:]
nothing = encode([])
told: dict[str, object] = {}
for kind in ("ed25519", "secp256k1", "p256"):
    identity = Identity(type=kind)
    # Its own checks know one root key, in this constant: a client of another network has to name the other.
    icp_certificate.certificate.IC_ROOT_KEY = root_key
    agent = Agent(identity, Client(url), root_key=root_key)
    [who] = agent.update(hello, "who", nothing, return_type=[Types.Principal])
    [greeting] = agent.query(hello, "greet", nothing, return_type=[Types.Text])
    told[kind] = {"principal": str(identity.sender()), "who": str(who["value"]), "greeting": greeting["value"]}
    try:
        agent.update(hello, "fail", nothing)
    except ReplicaReject as rejected:
        told[kind] |= {"rejected": str(rejected)}  # type: ignore[operator]
role = Types.Variant({"user": Types.Null, "assistant": Types.Null, "system": Types.Null})
message = Types.Record({"role": role, "content": Types.Text})
request = Types.Record({"model": Types.Text, "messages": Types.Vec(message)})
question = {"model": model, "messages": [{"role": {"user": None}, "content": "from the Python agent"}]}
chat = encode([{"type": request, "value": question}])
[words] = agent.update(gateway, "v0_chat", chat, return_type=[Types.Text])
told["v0"] = words["value"]
icp_certificate.certificate.IC_ROOT_KEY = root_key[:-1] + bytes([root_key[-1] ^ 1])
try:
    agent.update(hello, "who", nothing)
except CertificateVerificationError as refused:
    told["wrong_key"] = str(refused)
print(json.dumps(told))
