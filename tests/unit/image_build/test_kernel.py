"""image.md I25 to I28: what the guest kernel is built of, and that a kept one is what it says."""

from __future__ import annotations

import gzip
import hashlib
import re
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_build.downloads import silent
from image_build.errors import ImageRefused
from image_build.kernel import kernel_cache
from image_build.kernel.carried_configuration import configuration_of
from image_build.kernel.configuration import Options, parse_finished
from image_build.kernel.inputs import CONFIGURATION, PATCHES, Inputs, read_declared
from image_build.kernel.kernel_build import Built, check
from image_build.kernel.kernel_cache import Stated, have_kernel

INPUTS = Inputs.read()
ASKED = Options.parse(CONFIGURATION.read_text())


def a_kernel(configuration: str | None, *, sectors: int = 3) -> bytes:
    """As little of a bzImage as a reader of its configuration must see."""
    carried = b""
    if configuration is not None:
        carried = b"IKCFG_ST" + gzip.compress(configuration.encode(), mtime=0) + b"IKCFG_ED"
    payload = gzip.compress(b"\x7fELF" + bytes(100) + carried + bytes(100), mtime=0)
    image = bytearray((sectors + 1) * 512 + 64)
    image[0x1F1] = sectors
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", image, 0x248, 64, len(payload))
    return bytes(image) + payload + bytes(8)


def as_asked() -> str:
    return "".join(f"{each.name}={each.value}\n" for each in ASKED.options if each.value != "n")


# -- the configuration


def test_every_option_has_a_reason() -> None:  # image.md I26
    for each in ASKED.options:
        assert len(each.why) > 2, each.name
    assert {"CONFIG_MODULES", "CONFIG_ACPI_STATIC_TABLES"} <= {each.name for each in ASKED.options}


@pytest.mark.parametrize(
    "text",
    [
        "CONFIG_X=y\n",
        "CONFIG_X=y  #\n",
        "CONFIG_X=m # a module\n",
        "X=y # no name\n",
        "CONFIG_X=y # one\nCONFIG_X=n # two\n",
        "CONFIG_X = y # spaces\n",
        "CONFIG_X=y # one\nnonsense\n",
    ],
    ids=["no reason", "an empty one", "a module", "no option", "twice", "spaces", "nonsense"],
)
def test_a_line_of_another_form_is_refused(text: str) -> None:  # image.md I26
    with pytest.raises(ImageRefused, match=r"kernel\.configuration"):
        Options.parse(text)


def test_what_did_not_take_is_named() -> None:  # image.md I26
    asked = Options.parse('CONFIG_A=y # a\nCONFIG_B=n # b\nCONFIG_C=3 # c\nCONFIG_D="x" # d\n')
    assert list(asked.departures({"CONFIG_A": "y", "CONFIG_C": "3", "CONFIG_D": '"x"', "CONFIG_E": "y"})) == []
    assert list(asked.departures({"CONFIG_B": "y", "CONFIG_C": "4"})) == [
        "CONFIG_A is n, and not y",
        "CONFIG_B is y, and not n",
        "CONFIG_C is 4, and not 3",
        'CONFIG_D is n, and not "x"',
    ]


# -- what a kernel carries


def test_a_kernel_says_what_it_was_built_with() -> None:  # image.md I26
    text = '# a comment\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="x y"\n'
    assert configuration_of(a_kernel(text)) == parse_finished(text) == {"CONFIG_A": "y", "CONFIG_C": '"x y"'}
    check(a_kernel(as_asked()), INPUTS)
    with pytest.raises(ImageRefused, match="CONFIG_ACPI_STATIC_TABLES is n, and not y"):
        check(a_kernel(as_asked().replace("CONFIG_ACPI_STATIC_TABLES=y\n", "")), INPUTS)


@pytest.mark.parametrize(
    "image",
    [
        b"",
        b"MZ" + bytes(2000),
        a_kernel(None),
        a_kernel("CONFIG_A=y\n")[:-40],
        a_kernel("CONFIG_A=y\n").replace(b"\x1f\x8b", b"\x1f\x8c"),
    ],
    ids=["nothing", "another file", "no configuration", "cut", "no gzip"],
)
def test_a_file_that_carries_none_is_refused(image: bytes) -> None:
    with pytest.raises(ImageRefused, match=r"kernel\.image"):
        configuration_of(image)


@given(st.binary(max_size=64), st.integers(0, 2200))
def test_no_bytes_of_a_kernel_do_harm(noise: bytes, at: int) -> None:
    image = bytearray(a_kernel("CONFIG_A=y\n"))
    image[at : at + len(noise)] = noise
    try:
        configuration_of(bytes(image))
    except ImageRefused:
        return


# -- inputs


def test_everything_declared_is_locked_and_has_its_reason() -> None:  # image.md I1, I2
    assert [each.name for each in read_declared()] == [each.name for each in INPUTS.packages]
    for each in INPUTS.packages:
        assert re.fullmatch(r"pool/[a-zA-Z0-9./+~_-]+\.deb", each.path)
        assert re.fullmatch(r"[0-9a-f]{64}", each.sha256)
    assert INPUTS.source.name.startswith("linux-source-")


def test_the_patches_say_their_licence() -> None:  # image.md I25
    assert len(INPUTS.patches) == 2
    for content in INPUTS.patches.values():
        assert content.startswith(b"SPDX-License-Identifier: GPL-2.0-only\n")


def test_every_byte_that_has_a_part_is_in_the_digest() -> None:  # image.md I27
    name, content = next(iter(INPUTS.patches.items()))
    others = [
        replace(INPUTS, configuration=INPUTS.configuration + b"CONFIG_NEW=y # why\n"),
        replace(INPUTS, recipe=INPUTS.recipe + b"\n"),
        replace(INPUTS, patches={**INPUTS.patches, name: content + b"\n"}),
        replace(INPUTS, patches={**INPUTS.patches, "0003.patch": b""}),
        replace(INPUTS, packages=(replace(INPUTS.packages[0], sha256="0" * 64), *INPUTS.packages[1:])),
    ]
    assert len({INPUTS.digest, *(each.digest for each in others)}) == 6
    reworded = replace(INPUTS, configuration=INPUTS.configuration.replace(b"# no other kernel", b"# none"))
    assert reworded.configuration != INPUTS.configuration
    assert reworded.digest == INPUTS.digest


def test_the_stated_kernel_is_of_these_inputs() -> None:  # image.md I28
    """Whoever changes an input builds the kernel and states anew what came: `anchorhold image kernel --state`."""
    assert Stated.read().inputs == INPUTS.digest


# -- keeping


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "anchorhold/kernel" / INPUTS.digest


def stated(image: bytes) -> Stated:
    return Stated.of(INPUTS, Built(image, "6.12-x", 3, 1.0))


def test_a_kernel_is_built_once_and_then_kept(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # image.md I27
    built, image = list[int](), a_kernel(as_asked())
    monkeypatch.setattr(kernel_cache, "fetch", lambda *_, **__: 0)

    def once(*_: object, **__: object) -> Built:
        built.append(1)
        return Built(image, "6.12-x", 3, 1.0)

    monkeypatch.setattr(kernel_cache, "build", once)
    for _ in range(2):
        found = have_kernel(INPUTS, tmp_path / "cache", silent, stated=stated(image))
        assert (found.release, found.image) == ("6.12-x", image)
    assert built == [1]
    assert {path.name for path in kept.iterdir()} == {"vmlinuz", "stated.json"}
    (kept / "vmlinuz").write_bytes(image + b"!")
    with pytest.raises(ImageRefused, match=r"kernel\.kept.*remove that folder"):
        have_kernel(INPUTS, tmp_path / "cache", silent, stated=stated(image))


def test_a_kernel_of_other_bytes_than_stated_is_refused_and_not_kept(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # image.md I28
    image = a_kernel(as_asked())
    monkeypatch.setattr(kernel_cache, "fetch", lambda *_, **__: 0)
    monkeypatch.setattr(kernel_cache, "build", lambda *_, **__: Built(image, "6.12-x", 3, 1.0))
    with pytest.raises(ImageRefused, match=f"expected {hashlib.sha256(image + b'!').hexdigest()}"):
        have_kernel(INPUTS, tmp_path / "cache", silent, stated=stated(image + b"!"))
    assert not kept.exists()
    have_kernel(INPUTS, tmp_path / "cache", silent, stated=replace(stated(b"other inputs"), inputs="0" * 64))


def test_the_patches_are_whole_and_touch_few_files(tmp_path: Path) -> None:  # image.md I25
    """`git apply --numstat` reads a patch, and refuses one whose hunks do not add up."""
    told = subprocess.run(
        ["git", "apply", "--numstat", *sorted(map(str, PATCHES.glob("*.patch")))],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    files = {line.split("\t")[2] for line in told.stdout.splitlines()}
    assert files == {
        "arch/x86/kernel/acpi/boot.c",
        "arch/x86/kernel/acpi/madt_wakeup.c",
        "drivers/acpi/Kconfig",
        "drivers/acpi/acpica/exregion.c",
        "drivers/acpi/acpica/psparse.c",
        "drivers/acpi/osl.c",
        "include/acpi/acpiosxf.h",
    }
