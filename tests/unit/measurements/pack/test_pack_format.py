"""pack.md P1, P2, P3, P7, P9 to P11, P13, P17: the bytes of a pack, by the example and by a second writer."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnet.model import TinyModel
from foundation import cbor
from measurements.pack.disk import SECTOR_BYTES, length_of
from measurements.pack.errors import PackContentRefused, PackMalformed, PackRefused, PackSignatureRefused
from measurements.pack.header import MAGIC, SignedHeader, envelope_bytes
from measurements.pack.keys import derived_signing_key
from measurements.pack.pack_check import _check_length, inspect_pack, verify_pack
from measurements.pack.pack_manifest import CHUNK_BYTES, Manifest
from measurements.pack.pack_reader import open_pack
from measurements.pack.pack_writer import seal_pack
from tests.packs import FILES, KEY, SIGNER, Forge, write_folder

SPEC = Path(__file__).resolve().parents[4] / "docs" / "spec" / "pack.md"


def test_the_example_is_what_it_says(tmp_path: Path):
    TinyModel(layers=1, width=4).write(tmp_path / "m")
    path = tmp_path / "x.pack"
    signed = seal_pack(tmp_path / "m", path, KEY, threads=1, chunk_bytes=4096, draw=lambda count: b"\x07" * count)
    text = re.sub(r"\n +([0-9a-f]+)$", r"\1", SPEC.read_text(encoding="utf-8"), flags=re.MULTILINE)
    shown = dict(re.findall(r"^([a-z]+(?: [a-z0-9]+)*) {2,}([0-9a-f]{64,})", text, re.MULTILINE))
    header, measured = signed.header, signed.header.card.measured
    assert shown == {
        "manifest": cbor.encode(header.manifest.plain()).hex(),
        "config": measured.config.hex(),
        "tokenizer": measured.tokenizer.hex(),
        "template": measured.template.hex(),
        "model root": header.model_root.hex(),
        "key check": header.key_check.hex(),
        "signer": signed.signer.hex(),
        "index digest": header.index_digest.hex(),
        "chunk key": shown["chunk key"],
        "index entry 0": path.read_bytes()[signed.index_offset :][:32].hex(),
    }
    assert f"{signed.file_bytes} bytes, two chunks, SHA-256 {sha256(path.read_bytes()).hexdigest()}" in text
    assert signed.signer == derived_signing_key(KEY).public_key().public_bytes_raw()


def test_a_second_writer_makes_the_same_bytes(tmp_path: Path):
    path = tmp_path / "x.pack"
    seal_pack(
        write_folder(tmp_path / "m"),
        path,
        KEY,
        threads=2,
        signer=SIGNER,
        chunk_bytes=64,
        draw=lambda count: b"\x07" * count,
    )
    assert path.read_bytes() == Forge().build()


def test_sealing_twice_gives_one_root_and_nothing_else_in_common(tmp_path: Path):
    folder = write_folder(tmp_path / "m")
    packs = [seal_pack(folder, tmp_path / name, KEY, threads=1, chunk_bytes=64) for name in ("a", "b")]
    assert packs[0].header.model_root == packs[1].header.model_root
    assert packs[0].header.file_id != packs[1].header.file_id
    pieces = []
    for name, signed in zip("ab", packs, strict=True):
        content = (tmp_path / name).read_bytes()[signed.chunk_offset(0) :]
        pieces.append({content[at : at + 16] for at in range(0, len(content), 16)})
    assert not pieces[0] & pieces[1]


def refused(raw: bytes, tmp_path: Path) -> PackRefused:
    path = tmp_path / "x.pack"
    path.write_bytes(raw)
    with pytest.raises(PackRefused) as caught:
        verify_pack(path, threads=1)
    with pytest.raises(type(caught.value)), open_pack(path, KEY, threads=1):
        pass
    return caught.value


PROTECTED = {1: -8, 4: SIGNER.public_key().public_bytes_raw()}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Forge().build(unprotected={1: 1}),
        lambda: Forge().build(protected=cbor.encode({1: -7, 4: PROTECTED[4]})),
        lambda: Forge().build(protected=cbor.encode({1: -8})),
        lambda: Forge().build(protected=cbor.encode({**PROTECTED, 5: 1})),
        lambda: Forge().build(protected=b""),
        lambda: b"anchorhold-pack\r" + Forge().build()[16:],
        lambda: b"",
        lambda: Forge().build()[:19],
        lambda: Forge().build()[:400],
        lambda: Forge().build()[:16] + b"\xff\xff\xff\xff",
        lambda: Forge(header={"version": 2}).build(),
        lambda: Forge(header={"version": True}).build(),
        lambda: Forge(header={"more": 1}).build(),
        lambda: Forge(header={"file_id": bytes(31)}).build(),
        lambda: Forge(header={"model_root": "text"}).build(),
        lambda: Forge(header={"card": {}}).build(),
        lambda: Forge(header={"card": {"claims": {}, "measured": {}}}).build(),
        lambda: Forge(measured={"parameters": -1}).build(),
        lambda: Forge(measured={"dtypes": ["U8", "BF16"]}).build(),
        lambda: Forge(measured={"dtypes": ["X"]}).build(),
        lambda: Forge(measured={"config": b""}).build(),
        lambda: Forge(measured={"more": 1}).build(),
        lambda: Forge(claims={"name": "\n"}).build(),
        lambda: Forge(manifest=[]).build(),
        lambda: Forge(manifest=[64, {}]).build(),
        lambda: Forge(manifest=[64, []]).build(),
        lambda: Forge(manifest=[64, [["config.json", 0]]]).build(),
        lambda: Forge(manifest=["64", []]).build(),
    ],
)
def test_a_signed_header_of_another_shape_is_refused(tmp_path: Path, make: Callable[[], bytes]):
    assert isinstance(refused(make(), tmp_path), PackMalformed)


def test_a_signature_over_other_bytes_is_refused(tmp_path: Path):
    raw = Forge().build().replace(b"Apache-2.0", b"Apache-1.0")
    assert isinstance(refused(raw, tmp_path), PackSignatureRefused)


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_signature_of_another_size_is_malformed(tmp_path: Path, size: int):
    raw = Forge().build()
    end = 20 + int.from_bytes(raw[16:20], "big")
    envelope = cbor.decode(raw[20:end], tags=frozenset({18}))
    assert isinstance(envelope, cbor.Tag)
    parts = envelope.value
    assert isinstance(parts, list)
    changed = cbor.encode(cbor.Tag(18, [*parts[:3], bytes(size)]))
    refusal = refused(raw[:16] + len(changed).to_bytes(4, "big") + changed + raw[end:], tmp_path)
    assert refusal.code == "pack.envelope"


def test_a_signer_of_small_order_vouches_for_nothing(tmp_path: Path):  # pack.md P2
    """Under the neutral point this signature holds over any header, so nobody's key would have signed the pack."""
    neutral = (1).to_bytes(32, "little")
    raw = Forge().build(protected=cbor.encode({1: -8, 4: neutral}))
    end = 20 + int.from_bytes(raw[16:20], "big")
    envelope = raw[20 : end - 64] + neutral + bytes(32)
    refusal = refused(raw[:20] + envelope + raw[end:], tmp_path)
    assert isinstance(refusal, PackSignatureRefused)
    assert refusal.code == "pack.signer"


def test_an_envelope_is_bounded_before_it_is_read():
    assert envelope_bytes(MAGIC + (1 << 20).to_bytes(4, "big")) == 1 << 20
    with pytest.raises(PackMalformed, match=r"pack\.header"):
        envelope_bytes(MAGIC + ((1 << 20) + 1).to_bytes(4, "big"))


def test_the_start_of_a_pack_is_neither_shorter_nor_longer_than_it_says():
    raw = Forge().build()
    end = 20 + int.from_bytes(raw[16:20], "big")
    assert SignedHeader.parse(raw[:end]).raw == raw[:end]
    for other in (raw[: end - 1], raw[: end + 1]):
        with pytest.raises(PackMalformed, match=r"pack\.truncated"):
            SignedHeader.parse(other)


@pytest.mark.parametrize("cut", [1, 16, 17, 33, 34, 35, 114, 115, 500])
def test_a_short_pack_names_the_chunk_it_ends_in(tmp_path: Path, cut: int):
    raw = Forge().build()
    refusal = refused(raw[:-cut], tmp_path)
    assert isinstance(refusal, PackContentRefused)
    assert refusal.code == "pack.truncated"
    sizes = [80] * 6 + [18 + 16]
    assert refusal.chunk == next(n for n in range(7) if sum(sizes[: n + 1]) > sum(sizes) - cut)


def test_a_pack_cut_in_its_index_or_with_more_behind_is_refused(tmp_path: Path):
    raw = Forge().build()
    assert "chunk index" in refused(raw[: -80 * 6 - 34 - 1], tmp_path).got
    trailing = refused(raw + b"\0", tmp_path)
    assert (trailing.code, trailing.got) == ("pack.trailing", "1 more bytes")


FILE = [[name, 64 * place, 10] for place, name in enumerate(sorted(FILES))]


@pytest.mark.parametrize(
    ("manifest", "code"),
    [
        ([32, FILE], "pack.chunk-bytes"),
        ([96, FILE], "pack.chunk-bytes"),
        ([2 * CHUNK_BYTES, FILE], "pack.chunk-bytes"),
        ([64, FILE[::-1]], "pack.manifest"),
        ([64, [*FILE, FILE[-1]]], "pack.manifest"),
        ([64, [*FILE[:3], ["tokenizer.json", 202, 10]]], "pack.manifest"),
        ([64, [*FILE[:3], ["tokenizer.json", 137, 10]]], "pack.manifest"),
        ([64, [*FILE[:3], ["tokenizer.json", 192, 0]]], "pack.manifest"),
        ([64, [*FILE[:3], ["tokenizer.json", 192, 1 << 40]]], "pack.manifest"),
        ([64, [*FILE[:3], ["tokenizer.json", 192, 1 << 63]]], "pack.manifest"),
        ([64, [*FILE[:3], ["tokenizer.json", -1, 1]]], "pack.manifest"),
        ([64, FILE * 1025], "pack.manifest"),
        ([64, [*FILE[:3], ["tokenizer.exe", 192, 10]]], "pack.name"),
        ([64, FILE[:3]], "pack.missing"),
    ],
)
def test_a_manifest_holds_to_its_rules(manifest: list[Any], code: str):
    with pytest.raises(PackMalformed) as caught:
        Manifest.of(manifest)
    assert caught.value.code == code
    assert Manifest.of([64, FILE]).plain() == [64, FILE]


@given(
    st.dictionaries(st.sampled_from(["LICENSE", "NOTICE", "README.md", "merges.txt"]), st.integers(1, 300)),
    st.integers(10, 400),
    st.sampled_from([64, 256, 4096]),
)
def test_a_layout_is_close_aligned_and_reads_back(more: dict[str, int], head: int, chunk_bytes: int):
    files = [
        ("chat_template.jinja", 7, 0),
        ("config.json", 90, 0),
        ("model.safetensors", head + 77, head),
        ("tokenizer.json", 65, 0),
        *((name, size, 0) for name, size in more.items()),
    ]
    manifest = Manifest.lay_out(files, chunk_bytes)
    heads = {name: size for name, _, size in files}
    assert all((file.offset + heads[file.name]) % 64 == 0 for file in manifest.files)
    assert Manifest.of(manifest.plain()) == manifest
    assert sum(manifest.chunk_size(n) for n in range(manifest.chunks)) == manifest.plain_bytes


def test_inspecting_reads_the_header_alone(tmp_path: Path):
    path = tmp_path / "x.pack"
    path.write_bytes(Forge().build()[:-1])
    signed = inspect_pack(path)
    assert isinstance(signed, SignedHeader)
    assert signed.header.card.claims.name == "bits"


def test_a_disk_has_whole_sectors_and_no_more(tmp_path: Path):  # pack.md P2
    raw = Forge().build()
    signed = SignedHeader.parse(raw[: 20 + int.from_bytes(raw[16:20], "big")])
    for behind in (0, 511):
        _check_length(signed, signed.file_bytes + behind, SECTOR_BYTES - 1)
    for wrong in (-1, 512):
        with pytest.raises(PackContentRefused):
            _check_length(signed, signed.file_bytes + wrong, SECTOR_BYTES - 1)
    (tmp_path / "plain").write_bytes(bytes(700))
    with (tmp_path / "plain").open("rb") as file:
        assert length_of(file.fileno()) == (700, 0)
