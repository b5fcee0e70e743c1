"""pack.md P9, P10, P12 to P16, P18: opening gives the model that was sealed, or the name of what is wrong."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devnet.model import TinyModel
from measurements.pack.arena import Arena
from measurements.pack.errors import (
    PackContentRefused,
    PackIdentityRefused,
    PackKeyRefused,
    PackMalformed,
    PackRefused,
    PackSignatureRefused,
)
from measurements.pack.header import SignedHeader
from measurements.pack.identity import Expected, Identity, check_expected
from measurements.pack.pack_check import verify_pack
from measurements.pack.pack_reader import OpenedPack, open_pack
from measurements.pack.pack_writer import seal_pack
from tests.packs import FILES, KEY, OTHER_KEY, SIGNER, Forge, weights, write_folder

ROOT = Path(__file__).resolve().parents[4]
SIZE = (5 << 20) + (12 << 10)  # of no other mapping


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.pack"
    path.write_bytes(Forge().build())
    return path


def refused(path: Path, **options: Any) -> PackRefused:
    with pytest.raises(PackRefused) as caught, open_pack(path, options.pop("key", KEY), **{"threads": 1, **options}):
        pass
    return caught.value


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_what_was_sealed_comes_back_in_place(path: Path, threads: int):
    with open_pack(path, KEY, threads=threads) as opened:
        assert {name: bytes(opened.file(name)) for name in opened.names} == FILES
        tensors = opened.tensors()
        assert (tensors["a"].dtype, tensors["a"].shape, bytes(tensors["a"].data)) == ("BF16", (2, 3), bytes(range(12)))
        assert bytes(tensors["b"].data) == bytes(70)
        with pytest.raises(KeyError):
            opened.file("card.json")


def test_opened_memory_cannot_be_written_and_outlives_the_block_while_it_is_held(path: Path):
    with open_pack(path, KEY, threads=1) as opened:
        view = opened.tensors()["a"].data
        with pytest.raises(TypeError):
            view[0] = 1
    assert bytes(view) == bytes(range(12))


def test_memory_is_read_only_to_the_kernel_too():
    arena = Arena(3 << 20)
    arena.view[:4] = b"once"
    arena.freeze()
    areas = [line.split() for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()]
    spans = [(int(span.split("-")[1], 16) - int(span.split("-")[0], 16), rights) for span, rights, *_ in areas]
    assert (3 << 20, "r--p") in spans
    assert bytes(arena.view[:4]) == b"once"
    arena.close()
    with pytest.raises(ValueError, match="released"):
        arena.view[0]


def test_memory_of_a_model_is_in_no_core_dump():
    """pack.md P18: the kernel marks it `dd`, before and after freezing."""
    arena = Arena(SIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(arena.view))
    assert not dumped(address)
    arena.freeze()
    assert not dumped(address)
    arena.close()


def test_other_memory_would_be_dumped():
    with mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        byte = ctypes.c_char.from_buffer(area)
        assert dumped(ctypes.addressof(byte))
        del byte


def dumped(address: int) -> bool:
    """Whether a core dump would have the memory there. The kernel may have joined its mapping with a neighbour's."""
    for first, last, flags in mappings():
        if first <= address < last:
            return "dd" not in flags
    raise AssertionError(f"no mapping at {address:#x}")


def kept_out_of_dumps() -> int:
    """How many bytes of this process are in no core dump."""
    return sum(last - first for first, last, flags in mappings() if "dd" in flags)


def mappings() -> Iterator[tuple[int, int, list[str]]]:
    """Where each mapping of this process begins and ends, and its flags."""
    smaps = Path("/proc/self/smaps").read_text(encoding="utf-8")
    for first, last, flags in re.findall(r"(?ms)^([0-9a-f]+)-([0-9a-f]+) .*?^VmFlags:(.*?)$", smaps):
        yield int(first, 16), int(last, 16), flags.split()


def test_tensors_are_views_of_one_memory_without_a_copy(tmp_path: Path):
    big = weights(a=("U8", [8 << 20], bytes(8 << 20)))
    path = tmp_path / "x.pack"
    seal_pack(write_folder(tmp_path / "m", {"model.safetensors": big}), path, KEY, threads=2)
    with open_pack(path, KEY, threads=2) as opened:
        whole, part = opened.file("model.safetensors"), opened.tensors()["a"].data
        assert part.obj is whole.obj
        assert isinstance(part.obj, mmap.mmap)


def chunk(raw: bytes, index: int) -> slice:
    first = len(raw) - 6 * 80 - 34
    return slice(first + 80 * index, first + 80 * (index + 1))


def test_chunks_in_another_order_are_named(path: Path):
    raw = bytearray(path.read_bytes())
    raw[chunk(raw, 1)], raw[chunk(raw, 4)] = raw[chunk(raw, 4)], raw[chunk(raw, 1)]
    path.write_bytes(raw)
    for refusal in (refused(path), refused_by_verifying(path)):
        assert (refusal.code, refusal.got, refusal.chunk) == ("pack.chunk-order", "chunk 4", 1)


def refused_by_verifying(path: Path) -> PackContentRefused:
    with pytest.raises(PackContentRefused) as caught:
        verify_pack(path, threads=1)
    return caught.value


def test_a_chunk_of_another_pack_under_the_same_key_is_named(path: Path):
    raw, other = bytearray(path.read_bytes()), Forge(file_id=b"\x08" * 32).build()
    raw[chunk(raw, 3)] = other[chunk(raw, 3)]
    path.write_bytes(raw)
    assert (refused(path).chunk, refused_by_verifying(path).chunk) == (3, 3)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_lowest_of_several_damaged_chunks_is_named(path: Path, threads: int):
    raw = bytearray(path.read_bytes())
    for index in (2, 4, 6):
        raw[chunk(raw, index).start] ^= 1
    path.write_bytes(raw)
    assert refused(path, threads=threads).chunk == 2


def test_a_wrong_key_is_called_that(path: Path):
    refusal = refused(path, key=OTHER_KEY)
    assert isinstance(refusal, PackKeyRefused)
    assert KEY.reveal().hex() not in str(refusal)


def test_a_key_that_passes_the_check_and_is_wrong_opens_nothing(tmp_path: Path):
    honest = inspect(Forge().build())
    path = tmp_path / "x.pack"
    path.write_bytes(Forge(key=OTHER_KEY, header={"key_check": honest.header.key_check}).build())
    assert refused(path).chunk == 0


def inspect(raw: bytes) -> SignedHeader:
    size = int.from_bytes(raw[16:20], "big")
    return SignedHeader.parse(raw[: 20 + size])


@pytest.mark.parametrize(
    ("forge", "code"),
    [
        (Forge(header={"model_root": b"\x09" * 32}), "pack.model-root"),
        (Forge(header={"index_digest": b"\x09" * 32}), "pack.index"),
        (Forge(measured={"parameters": 405}), "pack.card.parameters"),
        (Forge(measured={"dtypes": ["BF16"]}), "pack.card.dtypes"),
        (Forge(measured={"tokenizer": bytes(32)}), "pack.card.tokenizer"),
        (Forge(measured={"template": bytes(32)}), "pack.card.template"),
        (Forge(measured={"config": bytes(32)}), "pack.card.config"),
        (Forge(padding=b"x"), "pack.layout"),
        (
            Forge(
                manifest=[
                    64,
                    [
                        ["chat_template.jinja", 0, 14],
                        ["config.json", 63, 13],
                        ["model.safetensors", 119, 219],
                        ["tokenizer.json", 384, 18],
                    ],
                ]
            ),
            "pack.layout",
        ),
        (Forge(files={**FILES, "tokenizer.json": b"\x80\x04."}), "pack.content"),
        (Forge(files={**FILES, "config.json": b'{"auto_map": 1}'}), "pack.code"),
        (Forge(files={**FILES, "model.safetensors": FILES["model.safetensors"] + b"x"}), "safetensors.cover"),
    ],
)
def test_a_signed_lie_is_found_once_the_content_is_in_the_clear(tmp_path: Path, forge: Forge, code: str):
    path = tmp_path / "x.pack"
    path.write_bytes(forge.build())
    assert refused(path).code == code


def identity(path: Path) -> Identity:
    with open_pack(path, KEY, threads=1) as opened:
        return opened.identity


def expected_of(path: Path) -> Expected:
    found = identity(path)
    return Expected(**{name: getattr(found, name) for name in Identity.__dataclass_fields__})


def differing(path: Path, expected: Expected) -> list[str]:
    refusal = refused(path, expected=expected)
    assert isinstance(refusal, PackIdentityRefused)
    assert all(name in str(refusal) for name, _, _ in refusal.differences)
    return [name for name, _, _ in refusal.differences]


def test_the_expected_model_opens_and_only_the_root_has_to_be_known(path: Path):
    for expected in (expected_of(path), Expected(model_root=identity(path).model_root)):
        with open_pack(path, KEY, threads=1, expected=expected) as opened:
            check_expected(opened.identity, expected)


@pytest.mark.parametrize(
    ("changes", "differ"),
    [
        ({"tokenizer.json": b'{"model": "words"}'}, ["tokenizer", "model-root"]),
        ({"chat_template.jinja": b"{{ messages }}!"}, ["template", "model-root"]),
        ({"config.json": b'{"width": 3}'}, ["config", "model-root"]),
        ({"LICENSE": b"other"}, ["model-root"]),
        ({"model.safetensors": weights(a=("BF16", [2, 3], bytes(12)), b=("U8", [70], bytes(70)))}, ["model-root"]),
    ],
)
def test_one_altered_file_is_named(path: Path, tmp_path: Path, changes: dict[str, bytes | None], differ: list[str]):
    other = tmp_path / "other.pack"
    seal_pack(write_folder(tmp_path / "m", changes), other, KEY, threads=1, signer=SIGNER, chunk_bytes=64)
    assert differing(other, expected_of(path)) == differ


def test_a_small_model_in_place_of_a_large_one_is_named(tmp_path: Path):
    packs = {}
    for name, layers in (("tiny-405b", 4), ("tiny-70b", 2)):
        TinyModel(name=name, layers=layers).write(tmp_path / name)
        packs[name] = tmp_path / f"{name}.pack"
        seal_pack(tmp_path / name, packs[name], KEY, threads=2, signer=SIGNER)
    expected = expected_of(packs["tiny-405b"])
    assert differing(packs["tiny-70b"], expected) == ["name", "parameters", "config", "model-root"]
    TinyModel(name="tiny-405b", layers=2).write(tmp_path / "lying")
    seal_pack(tmp_path / "lying", tmp_path / "lying.pack", KEY, threads=2, signer=SIGNER)
    assert differing(tmp_path / "lying.pack", expected) == ["parameters", "config", "model-root"]


def test_another_signer_is_named(path: Path, tmp_path: Path):
    other = tmp_path / "other.pack"
    seal_pack(write_folder(tmp_path / "m"), other, KEY, threads=1, chunk_bytes=64)
    assert differing(other, expected_of(path)) == ["signer"]
    with pytest.raises(PackSignatureRefused, match=r"pack\.signer"):
        verify_pack(other, threads=1, signer=identity(path).signer)


def test_the_wrong_model_is_refused_before_the_work(path: Path):
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert isinstance(refused(path, expected=Expected(model_root=bytes(32))), PackIdentityRefused)


def test_a_failed_opening_leaves_no_memory_and_no_descriptor(tmp_path: Path):
    path = tmp_path / "x.pack"
    big = weights(a=("U8", [SIZE], bytes(SIZE)))
    seal_pack(write_folder(tmp_path / "m", {"model.safetensors": big}), path, KEY, threads=1)
    gc.collect()
    apart = kept_out_of_dumps()
    with open_pack(path, KEY, threads=1):
        assert kept_out_of_dumps() >= apart + SIZE
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    refused(path)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert kept_out_of_dumps() == apart


def test_an_opened_pack_comes_from_opening_alone(path: Path):
    with pytest.raises(TypeError), open_pack(path, KEY, threads=1) as opened:
        OpenedPack(object(), opened.signed, Arena(1), {})


def test_progress_counts_every_byte_once_and_upwards(path: Path, tmp_path: Path):
    seen: list[tuple[int, int]] = []

    def note(done: int, total: int) -> None:
        seen.append((done, total))

    for act in (
        lambda: open_pack(path, KEY, threads=2, progress=note).__enter__(),
        lambda: verify_pack(path, threads=2, progress=note),
        lambda: seal_pack(write_folder(tmp_path / "m"), tmp_path / "y", KEY, threads=2, chunk_bytes=64, progress=note),
    ):
        seen.clear()
        act()
        assert [done for done, _ in seen] == sorted({done for done, _ in seen})
        assert seen[-1] == (402, 402)
        assert len(seen) == 7


@pytest.mark.parametrize("threads", [0, 65])
def test_threads_are_bounded(path: Path, threads: int):
    with pytest.raises(ValueError, match="threads"):
        verify_pack(path, threads=threads)


def test_sealing_a_file_that_changes_meanwhile_leaves_nothing(tmp_path: Path):
    folder = write_folder(tmp_path / "m", {"model.safetensors": weights(a=("U8", [5000], bytes(5000)))})

    def meddle(done: int, total: int) -> None:
        with (folder / "model.safetensors").open("ab") as file:
            file.write(b"x")

    with pytest.raises(PackMalformed, match=r"pack\.changed"):
        seal_pack(folder, tmp_path / "x.pack", KEY, threads=1, chunk_bytes=64, progress=meddle)
    assert [each.name for each in tmp_path.iterdir()] == ["m"]


def test_sealing_a_file_that_is_cut_meanwhile_leaves_nothing(tmp_path: Path):
    folder = write_folder(tmp_path / "m", {"model.safetensors": weights(a=("U8", [5000], bytes(5000)))})

    def cut(done: int, total: int) -> None:
        os.truncate(folder / "model.safetensors", 300)

    with pytest.raises(PackMalformed, match=r"pack\.changed"):
        seal_pack(folder, tmp_path / "x.pack", KEY, threads=1, chunk_bytes=64, progress=cut)
    assert [each.name for each in tmp_path.iterdir()] == ["m"]


def test_what_is_there_is_not_replaced(path: Path, tmp_path: Path):
    before = path.read_bytes()
    with pytest.raises(PackMalformed, match=r"pack\.exists"):
        seal_pack(write_folder(tmp_path / "m"), path, KEY, threads=1)
    assert path.read_bytes() == before


def test_an_interrupt_stops_every_thread_and_leaves_nothing(tmp_path: Path):
    folder = write_folder(tmp_path / "m", {"model.safetensors": weights(a=("U8", [50_000], bytes(50_000)))})

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seal_pack(folder, tmp_path / "x.pack", KEY, threads=2, chunk_bytes=64, progress=interrupt)
    assert [each.name for each in tmp_path.iterdir()] == ["m"]


@pytest.mark.slow
def test_a_model_of_64_mib_in_three_shards(tmp_path: Path):
    TinyModel(layers=4, width=2048, shards=3).write(tmp_path / "m")
    path = tmp_path / "x.pack"
    signed = seal_pack(tmp_path / "m", path, KEY, threads=2)
    assert signed.header.manifest.chunks == 17
    verify_pack(path, threads=2)
    with open_pack(path, KEY, threads=2) as opened:
        for name in opened.names:
            assert opened.file(name) == (tmp_path / "m" / name).read_bytes()
        assert len(opened.tensors()) == 10
    with path.open("r+b") as file:
        file.seek(signed.chunk_offset(11) + 12345)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x10]))
    assert refused(path, threads=2).chunk == refused_by_verifying(path).chunk == 11


_PEAK = """
import sys
from pathlib import Path
from measurements.pack.pack_reader import open_pack
from measurements.pack.pack_check import verify_pack
from tests.packs import KEY
def high():
    return int(next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM")).split()[1])
verify_pack(Path(sys.argv[1]), threads=8)
print(high() * 1024)
with open_pack(Path(sys.argv[1]), KEY, threads=8) as opened:
    print(high() * 1024, opened.signed.header.manifest.plain_bytes)
"""


@pytest.mark.slow
def test_opening_takes_the_model_and_256_mib_at_most_verifying_the_256_alone(tmp_path: Path):
    """pack.md P18. The model is larger than the allowance, so that a second copy of it would show."""
    TinyModel(layers=18, width=2048).write(tmp_path / "m")
    seal_pack(tmp_path / "m", tmp_path / "x.pack", KEY, threads=2)
    said = subprocess.run(
        [sys.executable, "-c", _PEAK, str(tmp_path / "x.pack")], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    verifying, opening, model = map(int, said.split())
    assert model > 280 << 20
    assert verifying < 256 << 20
    assert opening < model + (256 << 20)
