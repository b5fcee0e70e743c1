"""A client of the key broker protocol, written from its documents (and RFC 7515 to 7518, 7638) alone.

Imports nothing of ours: if it and the broker understand each other, they do so by the protocol. Its evidence has the
shape the protocol's own attesters send: an SNP report field by field, and a chain.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import ssl
from collections.abc import Callable
from http.cookies import SimpleCookie

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap


def b64u(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def unb64u(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Client:
    """`quote(report_data)` gives the primary evidence."""

    def __init__(self, host: str, port: int, authority: str, tee: str, quote: Callable[[bytes], dict]) -> None:
        self._context = ssl.create_default_context(cafile=authority)
        self._host, self._port, self._tee, self._quote = host, port, tee, quote
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.cookies = SimpleCookie()
        self.nonce = ""

    def call(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(self._host, self._port, context=self._context, timeout=30)
        try:
            headers = {"Content-Type": "application/json"}
            if self.cookies:
                headers["Cookie"] = "; ".join(f"{name}={morsel.value}" for name, morsel in self.cookies.items())
            connection.request(method, f"/kbs/v0/{path}", body, headers)
            response = connection.getresponse()
            for value in response.headers.get_all("Set-Cookie") or []:
                self.cookies.load(value)
            return response.status, response.read()
        finally:
            connection.close()

    def auth(self) -> int:
        request = {"version": "0.4.0", "tee": self._tee, "extra-params": ""}
        status, body = self.call("POST", "auth", json.dumps(request).encode())
        if status == 200:
            self.nonce = json.loads(body)["nonce"]
        return status

    @property
    def jwk(self) -> dict[str, str]:
        numbers = self.key.public_key().public_numbers()
        return {
            "kty": "EC",
            "crv": "P-256",
            "alg": "ECDH-ES+A256KW",
            "x": b64u(numbers.x.to_bytes(32, "big")),
            "y": b64u(numbers.y.to_bytes(32, "big")),
        }

    def attestation(self) -> bytes:
        runtime = {"nonce": self.nonce, "tee-pubkey": self.jwk}
        bound = json.dumps({"additional-evidence": "", **runtime}, sort_keys=True, separators=(",", ":"))
        report_data = hashlib.sha384(bound.encode()).digest().ljust(64, b"\0")
        evidence = {"primary_evidence": self._quote(report_data), "additional_evidence": ""}
        return json.dumps({"runtime-data": runtime, "tee-evidence": evidence}).encode()

    def attest(self) -> tuple[int, dict]:
        status, body = self.call("POST", "attest", self.attestation())
        return status, json.loads(body)

    def resource(self, path: str) -> tuple[int, bytes]:
        """Decrypted, if it was given."""
        status, body = self.call("GET", f"resource/{path}")
        return (status, self.decrypt(json.loads(body))) if status == 200 else (status, body)

    def decrypt(self, jwe: dict[str, str]) -> bytes:
        header = json.loads(unb64u(jwe["protected"]))
        assert (header["alg"], header["enc"]) == ("ECDH-ES+A256KW", "A256GCM")
        point = ec.EllipticCurvePublicNumbers(
            *(int.from_bytes(unb64u(header["epk"][axis]), "big") for axis in "xy"), ec.SECP256R1()
        )
        shared = self.key.exchange(ec.ECDH(), point.public_key())
        algorithm = b"ECDH-ES+A256KW"
        info = len(algorithm).to_bytes(4, "big") + algorithm + bytes(4) + bytes(4) + (256).to_bytes(4, "big")
        wrapping = hashlib.sha256((1).to_bytes(4, "big") + shared + info).digest()
        content = aes_key_unwrap(wrapping, unb64u(jwe["encrypted_key"]))
        text = unb64u(jwe["ciphertext"]) + unb64u(jwe["tag"])
        return AESGCM(content).decrypt(unb64u(jwe["iv"]), text, jwe["protected"].encode())


def snp_json(report: bytes, chain: dict[str, bytes], *, turin: bool = False) -> dict:
    """An SNP report as the protocol's attesters write it."""

    def number(at: int, size: int) -> int:
        return int.from_bytes(report[at : at + size], "little")

    def octets(at: int, size: int) -> list[int]:
        return list(report[at : at + size])

    def tcb(at: int) -> dict:
        raw = report[at : at + 8]
        if turin:
            return {"fmc": raw[0], "bootloader": raw[1], "tee": raw[2], "snp": raw[3], "microcode": raw[7]}
        return {"fmc": None, "bootloader": raw[0], "tee": raw[1], "snp": raw[6], "microcode": raw[7]}

    def build(at: int) -> dict:
        return {"build": report[at], "minor": report[at + 1], "major": report[at + 2]}

    fields = {
        "version": number(0, 4),
        "guest_svn": number(4, 4),
        "policy": number(8, 8),
        "family_id": octets(0x10, 16),
        "image_id": octets(0x20, 16),
        "vmpl": number(0x30, 4),
        "sig_algo": number(0x34, 4),
        "current_tcb": tcb(0x38),
        "plat_info": number(0x40, 8),
        "key_info": number(0x48, 4),
        "report_data": octets(0x50, 64),
        "measurement": octets(0x90, 48),
        "host_data": octets(0xC0, 32),
        "id_key_digest": octets(0xE0, 48),
        "author_key_digest": octets(0x110, 48),
        "report_id": octets(0x140, 32),
        "report_id_ma": octets(0x160, 32),
        "reported_tcb": tcb(0x180),
        "cpuid_fam_id": report[0x188],
        "cpuid_mod_id": report[0x189],
        "cpuid_step": report[0x18A],
        "chip_id": octets(0x1A0, 64),
        "committed_tcb": tcb(0x1E0),
        "current": build(0x1E8),
        "committed": build(0x1EC),
        "launch_tcb": tcb(0x1F0),
        "signature": {"r": octets(0x2A0, 72), "s": octets(0x2E8, 72)},
    }
    if fields["version"] >= 5:
        fields |= {"launch_mit_vector": number(0x1F8, 8), "current_mit_vector": number(0x200, 8)}
    return {
        "attestation_report": fields,
        "cert_chain": [{"cert_type": name, "data": list(der)} for name, der in chain.items()],
    }
