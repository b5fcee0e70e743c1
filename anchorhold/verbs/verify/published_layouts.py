"""The layouts evidence is published in, reduced to the bytes the parsers take.

A quote comes raw, as hexadecimal or base64 text, or in a JSON object (dstack's "quote", Azure's
"td_quote", a conformance case's "quote_b64"). Collateral comes as one JSON object, or as the parts of a
conformance case. GPU evidence comes raw, or as NVIDIA's JSON with the certificates beside it. Nothing here
is verified or judged.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING

from attestation.errors import FormatRefused
from foundation.document import ANY_HEX, ANY_TEXT, Fields, json_fields, json_value
from foundation.refusal import shown

if TYPE_CHECKING:
    from attestation.evidence.tdx_quote import TdxQuote

_JSON_BYTES_MAX = 8 * 1024 * 1024
_TEXT_MAX = 4 * 1024 * 1024
_QUOTE_MEMBERS = ("quote", "td_quote", "quote_b64")


def tdx_quote_bytes(data: bytes) -> bytes:
    text = data.strip()
    if text[:1] == b"{":
        members = json_fields(text, "tdx.quote", FormatRefused, bytes_max=_JSON_BYTES_MAX)
        name = next((name for name in _QUOTE_MEMBERS if name in members), _QUOTE_MEMBERS[0])
        return _decoded("tdx.quote", members.text(name, _TEXT_MAX, empty=True))
    # A raw quote starts with its version as two bytes, the second of them zero: never text.
    if re.fullmatch(rb"[0-9A-Za-z+/=_\-\s]+", text):
        return _decoded("tdx.quote", text.decode("ascii"))
    return data


def _decoded(code: str, text: str) -> bytes:
    """Hexadecimal, base64 or base64url, without regard to line breaks or padding."""
    compact = re.sub(r"\s", "", text).removeprefix("0x")
    if re.fullmatch(r"(?:[0-9a-fA-F]{2})+", compact):
        return bytes.fromhex(compact)
    compact = compact.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise FormatRefused(code, expected="hexadecimal or base64", got=shown(text)) from None


def collateral_json(data: bytes, quote: TdxQuote) -> bytes:
    """Collateral as one JSON object; the parts of a conformance case are put together into one."""
    members = json_fields(data, "tdx.collateral", FormatRefused, bytes_max=_JSON_BYTES_MAX)
    if "collateral" in members:
        members = members.fields("collateral")
    return json.dumps(_assembled(members, quote)).encode() if "tcb_info_json" in members else data


def _assembled(parts: Fields, quote: TdxQuote) -> dict[str, str]:
    tcb_info, tcb_info_signature = _signed_document(parts, "tcb_info_json", "tcbInfo")
    qe_identity, qe_identity_signature = _signed_document(parts, "qe_identity_json", "enclaveIdentity")

    def chain(name: str, fallback: str) -> str:
        return parts.text(name, _TEXT_MAX, empty=True) if name in parts else fallback

    # The PCK authority is in the quote as well; who signed the documents is not, and is then missing.
    authority = quote.pck_chain_pem.rstrip(b"\0").decode("ascii", "replace")
    authority = "-----BEGIN CERTIFICATE-----".join(["", *authority.split("-----BEGIN CERTIFICATE-----")[2:]])
    return {
        "tcb_info": tcb_info,
        "tcb_info_signature": tcb_info_signature,
        "tcb_info_issuer_chain": chain("tcb_info_issuer_chain_pem", ""),
        "qe_identity": qe_identity,
        "qe_identity_signature": qe_identity_signature,
        "qe_identity_issuer_chain": chain("qe_identity_issuer_chain_pem", ""),
        "root_ca_crl": _base64_to_hex(parts, "root_crl_der_b64"),
        "pck_crl": _base64_to_hex(parts, "pck_crl_der_b64"),
        "pck_crl_issuer_chain": chain("pck_crl_issuer_chain_pem", authority),
    }


def _base64_to_hex(parts: Fields, name: str) -> str:
    return _decoded(f"tdx.collateral.{name}", parts.text(name, _TEXT_MAX, empty=True)).hex()


def _signed_document(parts: Fields, name: str, inner: str) -> tuple[str, str]:
    """The exact text that was signed, cut out of its envelope `{"<inner>":{…},"signature":"…"}`."""
    code = f"tdx.collateral.{name}"
    text = parts.text(name, _TEXT_MAX, empty=True)
    signature = json_fields(text, code, FormatRefused, bytes_max=_TEXT_MAX).digest("signature", 64, ANY_HEX)
    envelope = re.match(rf'\s*\{{\s*"{inner}"\s*:\s*', text)
    if envelope is None:
        raise FormatRefused(code, expected=f'an object that starts with "{inner}"', got=shown(text))
    _, end = json.JSONDecoder().raw_decode(text, envelope.end())
    return text[envelope.end() : end], signature.hex()


def gpu_evidence(data: bytes) -> tuple[bytes, bytes | None]:
    """A raw report, or the first of NVIDIA's evidence JSON together with its certificates."""
    if data.strip()[:1] not in (b"[", b"{"):
        return data, None
    value = json_value(data, "gpu.evidence", FormatRefused, bytes_max=_JSON_BYTES_MAX)
    if isinstance(value, list):
        if len(value) != 1:
            raise FormatRefused("gpu.evidence", expected="the evidence of one device", got=f"{len(value)}")
        value = value[0]
    members = Fields(value, "gpu.evidence", FormatRefused, ANY_TEXT)
    report, chain = (
        _decoded(f"gpu.evidence.{name}", members.text(name, _TEXT_MAX, empty=True))
        for name in ("evidence", "certificate")
    )
    return report, chain
