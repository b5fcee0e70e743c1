"""text.md L24: tensors by their roles, from a folder and from a pack alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from anchorhold.command import main
from appliance.models import ModelRefused, describe, load_model
from appliance.models.folder import open_folder
from devnet import little_model
from foundation.secrecy import Secret
from measurements.pack.pack_reader import TensorView, open_pack
from measurements.pack.pack_writer import seal_pack

Change = Callable[[dict[str, TensorView]], None]
Q = "model.layers.0.self_attn.q_proj.weight"


def test_a_pack_and_its_folder_hold_the_same_model(tmp_path: Path) -> None:
    key = Secret(bytes(32))
    seal_pack(little_model.folder(), tmp_path / "model.pack", key, threads=1)
    with open_folder(little_model.folder()) as folder, open_pack(tmp_path / "model.pack", key, threads=1) as pack:
        described = describe(folder.file("config.json"))
        assert describe(bytes(pack.file("config.json"))) == described
        one, other = load_model(folder.tensors(), described), load_model(pack.tensors(), described)
        assert one.rotary_digest == other.rotary_digest
        assert one.tensor(Q) == other.tensor(Q)
        assert one.rotary is one.rotary


def without(name: str) -> Change:
    return lambda views: views.pop(name) and None


def typed(name: str, dtype: str) -> Change:
    return lambda views: views.update({name: replace(views[name], dtype=dtype)})


def shaped(name: str, *shape: int) -> Change:
    return lambda views: views.update({name: replace(views[name], shape=shape)})


def more(name: str) -> Change:
    return lambda views: views.update({name: views[Q]})


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (without(Q), "tensor.missing"),
        (without("model.norm.weight"), "tensor.missing"),
        (typed(Q, "F16"), "tensor.type"),
        (shaped(Q, 64, 256), "tensor.shape"),
        (more("lm_head.weight"), "tensor.unknown"),
        (more("model.layers.4.self_attn.q_proj.weight"), "tensor.unknown"),
        (more("model.layers.0.self_attn.q_proj.bias"), "tensor.unknown"),
    ],
)
def test_a_tensor_that_is_not_as_it_has_to_be_is_named(change: Change, code: str) -> None:
    with open_folder(little_model.folder()) as folder:
        views = dict(folder.tensors())
        change(views)
        with pytest.raises(ModelRefused) as refused:
            load_model(views, describe(folder.file("config.json")))
    assert refused.value.code == code


def test_what_old_files_keep_of_the_tables_is_left_aside() -> None:
    with open_folder(little_model.folder()) as folder:
        views = dict(folder.tensors())
        more("model.layers.0.self_attn.rotary_emb.inv_freq")(views)
        load_model(views, describe(folder.file("config.json")))


def test_a_folder_without_weights_and_one_that_is_no_safetensors(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match=r"folder\.weights"), open_folder(tmp_path):
        pass
    (tmp_path / "model.safetensors").write_bytes(b"not one")
    with pytest.raises(ModelRefused, match=r"folder\.safetensors"), open_folder(tmp_path):
        pass


def test_the_command_shows_and_quantizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small"
    assert main(["model", "quantize", str(little_model.folder()), str(out), "--format", "int4", "--group", "32"]) == 0
    assert json.loads((out / "card.json").read_bytes())["quantization"] == "int4-g32"
    capsys.readouterr()
    assert main(["model", "show", str(out)]) == 0
    assert "int4 32" in capsys.readouterr().out
    assert main(["model", "quantize", str(out), str(tmp_path / "again")]) == 1
    assert "quantized" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()
    assert main(["model", "convert", str(little_model.folder()), str(tmp_path / "same")]) == 0
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "same" / name).stat().st_size > 0
    with open_folder(tmp_path / "same") as same, open_folder(little_model.folder()) as folder:
        assert same.tensors()[Q] == folder.tensors()[Q]
