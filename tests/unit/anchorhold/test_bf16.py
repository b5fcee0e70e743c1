"""Numbers of other widths as bf16, beside what the definition says, and through a whole model folder."""

from __future__ import annotations

import json
import random
import struct
from array import array
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorhold import bf16
from anchorhold.bf16 import NotFinite, rounded
from anchorhold.owner.weight_conversion import convert
from appliance.engine.fixed.architecture import Format, Quantization
from appliance.models.errors import ModelRefused
from devnet.model import safetensors_head
from tests.elsewhere import brought
from tests.little_engine import needs_kernels, write_model

SINGLES = st.integers(0, 2**32 - 1)
HALVES = [bits for bits in range(1 << 16) if bits & 0x7C00 != 0x7C00]


def value(bits: int) -> Fraction:
    """Of a finite bf16; the first number that is none counts on as if exponents did."""
    exponent, fraction = bits >> 7 & 0xFF, bits & 0x7F
    sized = (
        Fraction(fraction, 128) * Fraction(2) ** -126
        if not exponent
        else (Fraction(128 + fraction, 128) * Fraction(2) ** (exponent - 127))
    )
    return -sized if bits >> 15 else sized


def exact(single: int) -> Fraction:
    return Fraction(struct.unpack("<f", struct.pack("<I", single))[0])


def nearest(single: int) -> int:
    """Of the two bf16 on either side the nearer, or the one with an even last bit."""
    below, rest = single >> 16, single & 0xFFFF
    return below + (rest > 0x8000 or (rest == 0x8000 and below & 1))


@given(SINGLES.filter(lambda single: single & 0x7F800000 != 0x7F800000))
def test_the_nearest_is_the_nearest(single: int) -> None:
    below = single >> 16
    assert nearest(single) == min((below, below + 1), key=lambda bits: (abs(value(bits) - exact(single)), bits & 1))


@given(st.lists(SINGLES, max_size=9))
def test_a_float32_goes_to_the_nearest(singles: list[int]) -> None:
    raw = array("I", singles).tobytes()
    finite = all(single & 0x7F800000 != 0x7F800000 and nearest(single) & 0x7F80 != 0x7F80 for single in singles)
    if not finite:
        with pytest.raises(NotFinite):
            rounded(raw, "F32")
    else:
        assert rounded(raw, "F32") == array("H", map(nearest, singles)).tobytes()


@pytest.mark.parametrize("low", [0x0000, 0x0001, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
def test_every_upper_half_with_the_lower_halves_that_decide(low: int) -> None:
    singles = [upper << 16 | low for upper in range(1 << 16) if upper & 0x7F80 not in {0x7F80, 0x7F00}]
    assert rounded(array("I", singles).tobytes(), "F32") == array("H", map(nearest, singles)).tobytes()


def test_every_float16() -> None:
    singles = struct.unpack(
        f"<{len(HALVES)}I",
        struct.pack(f"<{len(HALVES)}f", *struct.unpack(f"<{len(HALVES)}e", array("H", HALVES).tobytes())),
    )
    assert rounded(array("H", HALVES).tobytes(), "F16") == array("H", map(nearest, singles)).tobytes()


def test_more_than_one_chunk_is_cut_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    singles = array("f", (random.Random(7).uniform(-9, 9) for _ in range(1000))).tobytes()
    whole = rounded(singles, "F32")
    monkeypatch.setattr(bf16, "_CHUNK", 7)
    assert rounded(singles, "F32") == whole
    assert rounded(whole, "BF16") == whole


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [
        ("BF16", 0x7F80),
        ("BF16", 0xFF80),
        ("BF16", 0x7FC1),
        ("F16", 0x7C00),
        ("F16", 0xFC00),
        ("F16", 0x7E01),
        ("F32", 0x7F800000),
        ("F32", 0xFF800000),
        ("F32", 0x7FC00000),
        ("F32", 0x7F800001),
        ("F32", 0xFFFFFFFF),
        ("F32", 0x7F7F8000),
        ("F32", 0xFF7FFFFF),
    ],
)
def test_what_is_not_finite_is_refused_wherever_it_stands(dtype: str, bits: int) -> None:
    code = "I" if dtype == "F32" else "H"
    for at in range(3):
        numbers = array(code, [0] * 3)
        numbers[at] = bits
        with pytest.raises(NotFinite):
            rounded(numbers.tobytes(), dtype)


@pytest.mark.torch
def test_torch_rounds_alike() -> None:
    torch = brought("torch")
    drawn = random.Random(3)
    singles = array(
        "I",
        (
            single
            for single in (drawn.getrandbits(32) for _ in range(200_000))
            if single & 0x7F800000 not in {0x7F800000, 0x7F000000}
        ),
    ).tobytes()
    for raw, dtype, theirs in ((singles, "F32", torch.float32), (array("H", HALVES).tobytes(), "F16", torch.float16)):
        other = torch.frombuffer(bytearray(raw), dtype=theirs).to(torch.bfloat16)
        assert rounded(raw, dtype) == bytes(other.view(torch.uint8).numpy())


# ---- a folder


def widened(folder: Path, dtype: str) -> bytes:
    """Writes the folder's weights anew in float32 or float16; what they were before, as they lie in the file."""
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    head, data = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    numbers = struct.unpack(
        f"<{len(data) // 2}f", b"".join(b"\0\0" + data[at : at + 2] for at in range(0, len(data), 2))
    )
    code, width = {"F32": ("f", 4), "F16": ("e", 2)}[dtype]
    members = sorted(
        ((name, each) for name, each in head.items() if name != "__metadata__"),
        key=lambda member: member[1]["data_offsets"],
    )
    wide = safetensors_head(
        [
            (name, dtype, tuple(each["shape"]), (each["data_offsets"][1] - each["data_offsets"][0]) // 2 * width)
            for name, each in members
        ]
    )
    path.write_bytes(wide + struct.pack(f"<{len(numbers)}{code}", *numbers))
    return data


@needs_kernels
def test_a_folder_in_float32_comes_back_as_the_bf16_it_was(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    kept = widened(folder, "F32")
    convert(folder, tmp_path / "out", Quantization(Format.BF16, 0))
    assert (tmp_path / "out" / "model.safetensors").read_bytes().endswith(kept)


@needs_kernels
def test_a_quantized_folder_is_the_same_from_either_width(tmp_path: Path) -> None:
    convert(write_model(tmp_path / "narrow"), tmp_path / "one", Quantization(Format.INT8, 32))
    wide = write_model(tmp_path / "wide")
    widened(wide, "F32")
    convert(wide, tmp_path / "two", Quantization(Format.INT8, 32))
    assert {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()
    }


@needs_kernels
def test_a_folder_with_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-2] + b"\xc0\x7f")
    with pytest.raises(ModelRefused, match=r"convert\.number: expected finite numbers of bf16 in "):
        convert(folder, tmp_path / "out", Quantization(Format.BF16, 0))
