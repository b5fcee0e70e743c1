"""Simulated platforms kept in a file, so that the processes of one devnet share a root.

The file holds private keys in clear: of a simulation, where they protect nothing. It is written for its owner
alone all the same, so that nobody gets used to another way.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from attestation.evidence.snp_report import Product
from devnet.pki import Authority, Validity
from devnet.sim_snp import PatchLevels, SimulatedSnp
from devnet.sim_tdx import SimulatedTdx
from foundation import private_files

FORMAT = "anchorhold simulated platform 1"
AUTHORITIES = ("ark", "ask", "vcek")


def save(platform: SimulatedSnp | SimulatedTdx, path: Path) -> None:
    """Write a platform to a new file; an existing one is never overwritten."""
    document: dict[str, object] = {
        "format": FORMAT,
        "warning": "SIMULATED: these keys protect nothing",
        "seed": platform.seed.hex(),
        "from": platform.validity.start.isoformat(),
        "until": platform.validity.end.isoformat(),
    }
    if isinstance(platform, SimulatedSnp):
        document |= {
            "product": platform.product.value,
            "tcb": asdict(platform.tcb),
            **{name: _authority_text(getattr(platform, name)) for name in AUTHORITIES},
        }
    private_files.write_new(path, json.dumps(document, indent=2).encode("ascii"))


def load(path: Path) -> SimulatedSnp | SimulatedTdx:
    """The platform of a file that `save` wrote. Raises `ValueError` for any other file."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="ascii"))
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"{path} holds no simulated platform")
    seed = bytes.fromhex(document["seed"])
    validity = Validity(_moment(document["from"]), _moment(document["until"]))
    if "product" not in document:
        return SimulatedTdx.create(seed, validity)
    ark, ask, vcek = (_authority(document[name]) for name in AUTHORITIES)
    return SimulatedSnp(Product(document["product"]), seed, PatchLevels(**document["tcb"]), validity, ark, ask, vcek)


def _authority_text(authority: Authority) -> dict[str, str]:
    key = authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {"certificate": authority.pem, "key": key.decode()}


def _authority(texts: dict[str, str]) -> Authority:
    key = load_pem_private_key(texts["key"].encode(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise ValueError("a key of another kind")
    return Authority(x509.load_pem_x509_certificate(texts["certificate"].encode()), key)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
