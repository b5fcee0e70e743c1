"""The example of receipt.md, byte for byte: T1, T9, T18 and T20."""

from __future__ import annotations

from pathlib import Path

from attestation.receipts.signed_receipt import key_id
from tests.little_receipts import book, ordered, plain, raw, receipt_key

SPEC = Path(__file__).resolve().parents[4] / "docs" / "spec" / "receipt.md"
BODY = bytes.fromhex(
    "8b0182666465766e6574582000000000000000000000000000000000000000000000000000000000000000005820c0c0c0c0c0c0c0c0c0c0c0c0"
    "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0835820303030303030303030303030303030303030303030303030303030303030303058"
    "203131313131313131313131313131313131313131313131313131313131313131582032323232323232323232323232323232323232323232"
    "32323232323232323232825820e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e05820e1e1e1e1e1e1e1e1e1e1"
    "e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1844a00000000fff00005010101000082005820e721e9f57f5a4857aa22220e72a820e9"
    "d53b7088df251f9117410496ce584e44820058202f80882ae1e0def2000afe1d4177762fd553e7c532eaf9e183a50697b9c7bbbf835820d763"
    "309b6ea291d027fc58e5c20e466465f5a575db3dbe2995a856d90159d2bd58204884bedabe5f334b2afc6710d10ce4db7fe61bae8a8d7f2c60"
    "2fc2a228a4d7bd00840c0758206779cab33d881cb00632863ed68a216b6fd88f222aaf39caf7352248f6ead5811a0010b1705820acac076b50"
    "3437ee7f9262657857f1c7e44330309bf0df1f2f45d25a0a47bcbe"
)
SIGNATURE = bytes.fromhex(
    "8c35584eb9183b857028b6a33b299d3692fa19bad2b202b76fd1317e959b88e618a121df6687896f16d5e35aed5477deba65b56127086bdefd"
    "87370d6ec4910e"
)


def test_the_example() -> None:
    of, request = book(), ordered(1, 0, 0)
    issued = of.issue(request, plain(request))
    assert issued.body == BODY
    assert issued.signed.endswith(b"\x59\x01\xe3" + BODY + b"\x58\x40" + SIGNATURE)
    text = SPEC.read_text(encoding="utf-8")
    assert of.checkpoint().decode() in text
    assert key_id(raw(receipt_key("cell a"))).hex()[:8] in text
    assert f"{issued.receipt.cycles:,}".replace(",", " ") in text
