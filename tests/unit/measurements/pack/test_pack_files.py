"""pack.md P4, P5, P8: what may be in a pack, and what may not, each refused under its name."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest

from measurements.pack.card import Card
from measurements.pack.errors import PackMalformed
from measurements.pack.files import check_names, check_small, kind_of, looks_like
from measurements.pack.folder import Folder
from tests.packs import FILES, weights, write_folder

ARCHIVE = io.BytesIO()
with zipfile.ZipFile(ARCHIVE, "w") as _file:
    _file.writestr("data.pkl", b"\x80\x02.")

TINY = weights(a=("U8", [1], b"\1"))
OTHER = weights(b=("U8", [1], b"\1"))
SHARDS = {
    "model.safetensors": None,
    "model-00001-of-00002.safetensors": TINY,
    "model-00002-of-00002.safetensors": OTHER,
}


def opened(folder: Path) -> Any:
    with Folder.open(folder, 64) as found:
        return found


def refused(folder: Path) -> PackMalformed:
    with pytest.raises(PackMalformed) as caught:
        opened(folder)
    return caught.value


def test_a_folder_of_known_files_is_taken(tmp_path: Path):
    more = {
        "LICENSE": b"may be used",
        "README.md": "# a\tmodel \u2014 \n".encode(),
        "merges.txt": b"a b\n",
        "tokenizer_config.json": b'{"x": 0.5}',
        "special_tokens_map.json": b"{}",
        "generation_config.json": b"{}",
    }
    found = opened(write_folder(tmp_path / "m", more))
    assert [file.name for file in found.manifest.files] == sorted({*FILES, *more})
    assert found.card.measured.parameters == 76
    assert found.card.measured.dtypes == ("BF16", "U8")


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "model.pt",
        "weights.pkl",
        "modeling_tiny.py",
        "run.sh",
        "a.so",
        ".gitattributes",
        "Model.safetensors",
        "model-00000-of-00002.safetensors",
        "model-00003-of-00002.safetensors",
        "model-1-of-2.safetensors",
        "chat_template.jinja ",
        "config.json\n",
        "tokenizer.model",
        "consolidated.00.pth",
        "model.gguf",
        "\u0661.json",
    ],
)
def test_any_other_name_is_refused(tmp_path: Path, name: str):
    refusal = refused(write_folder(tmp_path / "m", {name: b"{}"}))
    assert refusal.code in {"pack.name", "pack.shards"}


@pytest.mark.parametrize("missing", [*FILES, "card.json"])
def test_what_has_to_be_there_is_asked_for(tmp_path: Path, missing: str):
    assert refused(write_folder(tmp_path / "m", {missing: None})).code == "pack.missing"


@pytest.mark.parametrize(
    "names",
    [
        ["model-00001-of-00002.safetensors"],
        ["model-00002-of-00002.safetensors"],
        ["model-00001-of-00001.safetensors", "model.safetensors"],
        ["model-00001-of-00002.safetensors", "model-00002-of-00003.safetensors"],
    ],
)
def test_shards_are_whole(names: list[str]):
    rest = [name for name in FILES if name != "model.safetensors"]
    with pytest.raises(PackMalformed, match=r"pack\.shards"):
        check_names([*names, *rest])


@pytest.mark.parametrize(
    ("content", "seems"),
    [
        *((pickle.dumps({"a": 1}, protocol), "pickle") for protocol in range(2, 6)),
        (b"cos\nsystem\n(S'ls'\ntR.", "pickle"),
        (ARCHIVE.getvalue(), "zip or torch"),
        (b"\x7fELF\x02\x01\x01" + bytes(60), "ELF"),
        (b"MZ" + bytes(60), "Windows"),
        (b"#!/bin/sh\necho\n", "script"),
        (b"\x00asm\x01\x00\x00\x00", "WebAssembly"),
        (b"\x1f\x8b\x08" + bytes(20), "gzip"),
        (bytes(257) + b"ustar\x00" + bytes(300), "tar"),
        (b"GGUF" + bytes(20), "GGUF"),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "chat_template.jinja", "README.md"])
def test_programs_and_pickle_are_refused_as_what_they_are(tmp_path: Path, name: str, content: bytes, seems: str):
    refusal = refused(write_folder(tmp_path / "m", {name: content}))
    assert refusal.code == "pack.content"
    assert seems in refusal.got
    assert name in refusal.expected


def test_pickle_without_a_sign_is_no_json_text_or_safetensors_either(tmp_path: Path):
    content = pickle.dumps({"a": 1}, 0)
    assert looks_like(content) in (None, "pickle")
    for number, name in enumerate(("model.safetensors", "config.json")):
        refused(write_folder(tmp_path / str(number), {name: content}))


def test_a_header_whose_length_looks_like_pickle_is_still_safetensors(tmp_path: Path):
    text = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'.ljust(0x280)
    content = len(text).to_bytes(8, "little") + text + b"\1"
    assert looks_like(content) == "pickle"
    assert opened(write_folder(tmp_path / "m", {"model.safetensors": content})).card.measured.parameters == 1


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("config.json", b"[]", "pack.json"),
        ("config.json", b'{"a": 1, "a": 2}', "pack.json"),
        ("config.json", b"{", "pack.json"),
        ("config.json", b'{"a": Infinity}', "pack.json"),
        ("config.json", b'{"auto_map": {}}', "pack.code"),
        ("tokenizer_config.json", b'{"auto_map": {}}', "pack.code"),
        ("tokenizer_config.json", b'{"chat_template": "x"}', "pack.template"),
        ("chat_template.jinja", b"\xff\xfe", "pack.content"),
        ("chat_template.jinja", b"a\x00b", "pack.content"),
        ("chat_template.jinja", b"", "pack.file"),
        ("model.safetensors.index.json", b"{}", "pack.weight-map"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "model.safetensors"}}', "pack.weight-map"),
        ("model.safetensors", weights(), "pack.tensor"),
        ("card.json", b"{}", "pack.card"),
        ("card.json", b"\x80\x04.", "pack.json"),
        ("card.json", b" " * 70_000, "pack.size"),
    ],
)
def test_a_file_that_is_not_of_its_kind_is_refused(tmp_path: Path, name: str, content: bytes, code: str):
    assert refused(write_folder(tmp_path / "m", {name: content})).code == code


def test_a_weight_map_that_says_where_everything_is_passes_and_shards_are_joined(tmp_path: Path):
    where = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = {"model.safetensors.index.json": json.dumps({"weight_map": where}).encode()}
    assert opened(write_folder(tmp_path / "m", {**SHARDS, **index})).card.measured.parameters == 2
    extra = {"model.safetensors.index.json": json.dumps({"weight_map": {**where, "c": "nowhere"}}).encode()}
    assert refused(write_folder(tmp_path / "n", {**SHARDS, **extra})).code == "pack.weight-map"


def test_no_tensor_is_in_two_files(tmp_path: Path):
    twice = {**SHARDS, "model-00002-of-00002.safetensors": TINY}
    refusal = refused(write_folder(tmp_path / "m", twice))
    assert refusal.code == "pack.tensor"


def test_links_folders_and_pipes_are_refused(tmp_path: Path):
    for number, make in enumerate(
        (lambda path: path.symlink_to("/etc/hostname"), lambda path: path.mkdir(), os.mkfifo)
    ):
        folder = write_folder(tmp_path / str(number), {"config.json": None})
        make(folder / "config.json")
        assert refused(folder).code in {"pack.link", "pack.file"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": ""}, "pack.card.name"),
        ({"name": "a\nb"}, "pack.card.name"),
        ({"license": 5}, "pack.card.license"),
        ({"family": "x" * 97}, "pack.card.family"),
        ({"quantization": None}, "pack.card.quantization"),
        ({"note": "more"}, "pack.card"),
        ({"sampling": []}, "pack.card.sampling"),
        ({"sampling": {"heat": 1}}, "pack.card.sampling"),
        ({"sampling": {"top_k": True}}, "pack.card.sampling.top_k"),
        ({"sampling": {"top_p_micro": 1_000_001}}, "pack.card.sampling.top_p_micro"),
        ({"sampling": {"top_k": -1}}, "pack.card.sampling.top_k"),
        ({"sampling": {"temperature_micro": 0.7}}, "pack.json"),
    ],
)
def test_a_card_says_what_it_has_to_and_nothing_else(tmp_path: Path, changes: dict[str, Any], code: str):
    assert refused(write_folder(tmp_path / "m", **changes)).code == code


def test_a_card_whose_names_are_no_text_is_refused():
    with pytest.raises(PackMalformed, match=r"pack\.card: .*missing or unknown: '7, family"):
        Card.of({"claims": {7: "", "name": "a", "odd": "b"}, "measured": {}})


@pytest.mark.parametrize("number", range(32))
def test_text_has_no_control_characters(number: int):
    if chr(number) in "\t\n\f\r":
        check_small("README.md", b"a" + bytes([number]))
    else:
        with pytest.raises(PackMalformed, match=f"control character {number}$"):
            check_small("README.md", b"a" + bytes([number]))


def test_64_mib_is_the_most_of_a_file_that_is_not_weights():
    check_small("LICENSE", b"a" * (64 << 20))
    with pytest.raises(PackMalformed, match=r"pack\.size"):
        check_small("LICENSE", b"a" * ((64 << 20) + 1))


def test_every_known_name_has_one_kind():
    assert {kind_of(name).value for name in FILES} == {"template", "config", "weights", "tokenizer"}
