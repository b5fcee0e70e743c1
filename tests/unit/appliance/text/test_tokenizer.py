"""text.md L2, L11: which tokenizers are served, and that tokens stand for the bytes the library says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.text import ModelText, ModelTextRefused
from appliance.text.listener import Listener
from appliance.text.tokenizer import Tokenizer
from appliance.text.veil import Veil
from devnet import little_model
from tests.little_text import FAMILIES, files, tokenizer

READ = {family: Tokenizer.parse(files(family)["tokenizer.json"]) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
@given(words=st.text(max_size=40))
@settings(max_examples=60, deadline=None)
def test_text_comes_back_as_the_library_says(family: str, words: str) -> None:  # text.md L11
    read = READ[family]
    veil = Veil(read.control)
    if any("\ufdd0" <= character <= "\ufdef" for character in words):
        return
    ids = read.encode(veil.over(words), veil)
    listener = Listener(read.pieces, (), strips_first_space=read.strips_first_space)
    said = b"".join(listener.feed(token) for token in ids) + listener.end(full=False).words
    assert said.decode() == tokenizer(family).decode(list(ids), skip_special_tokens=True)


@given(ids=st.lists(st.integers(0, 330), max_size=30))
@settings(max_examples=100, deadline=None)
def test_any_tokens_at_all_become_what_the_library_makes_of_them(ids: list[int]) -> None:  # text.md L11
    read = READ["chatml"]
    listener = Listener(read.pieces, ())
    said = b"".join(listener.feed(token) for token in ids) + listener.end(full=False).words
    wanted = tokenizer("chatml").decode(ids, skip_special_tokens=True)
    # The library ends a piece at an added token that is spoken; ours goes on, so half a character may differ there.
    if not any(b"<" in read.pieces[token] for token in ids if token < len(read.pieces)):
        assert said.decode() == wanted


Change = Callable[[dict[str, Any]], None]


def put(name: str, value: Any) -> Change:
    return lambda members: members.update({name: value})


def model(name: str, value: Any) -> Change:
    return lambda members: members["model"].update({name: value})


def added(**changes: Any) -> Change:
    return lambda members: members["added_tokens"][0].update(changes)


def again(members: dict[str, Any]) -> None:
    members["added_tokens"].append(dict(members["added_tokens"][0]))


def twice(members: dict[str, Any]) -> None:
    members["model"]["vocab"]["ab"] = 5


@pytest.mark.parametrize(
    ("change", "code"),
    [  # text.md L2
        (put("extra", 1), "tokenizer.members"),
        (put("truncation", {"max_length": 5}), "tokenizer.truncation"),
        (put("padding", {}), "tokenizer.padding"),
        (put("decoder", None), "tokenizer.decoder"),
        (put("decoder", {"type": "WordPiece"}), "tokenizer.decoder"),
        (put("model", {"type": "WordLevel", "vocab": {}}), "tokenizer.model"),
        (put("model", None), "tokenizer.model"),
        (model("dropout", 0.1), "tokenizer.dropout"),
        (model("vocab", {"a": -1}), "tokenizer.vocab"),
        (model("vocab", {"a": 1 << 30}), "tokenizer.vocab"),
        (model("vocab", [1]), "tokenizer.vocab"),
        (model("vocab", {"日": 1}), "tokenizer.vocab"),
        (model("merges", 3), "tokenizer.json"),
        (twice, "tokenizer.vocab"),
        (again, "tokenizer.added"),
        (added(lstrip=True), "tokenizer.added"),
        (added(rstrip=True), "tokenizer.added"),
        (added(single_word=True), "tokenizer.added"),
        (added(id="5"), "tokenizer.added"),
        (added(content=""), "tokenizer.added"),
        (put("added_tokens", None), "tokenizer.added"),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused_by_name(change: Change, code: str) -> None:
    members = json.loads(files("chatml")["tokenizer.json"])
    change(members)
    with pytest.raises(ModelTextRefused) as refused:
        Tokenizer.parse(json.dumps(members).encode())
    assert refused.value.code == code


@pytest.mark.parametrize("token", ["user", "<x", "x>", " <x>", "<x>\n", "\ufdd0x>"])
def test_a_control_token_has_marks_at_its_edges(token: str) -> None:  # text.md L8
    with pytest.raises(ModelTextRefused, match=r"tokenizer\.edge"):
        Veil([token])


def test_a_piece_that_is_a_control_token_is_not_reached_by_words() -> None:  # text.md L10
    members = json.loads(files("chatml")["tokenizer.json"])
    members["model"]["vocab"]["<|x|>"] = number = members["added_tokens"][0]["id"] + 100
    members["model"]["merges"] = [["<", "|"], ["<|", "x"], ["<|x", "|"], ["<|x|", ">"]]
    members["model"]["vocab"] |= {"<|": number + 1, "<|x": number + 2, "<|x|": number + 3}
    members["pre_tokenizer"] = {**members["pre_tokenizer"], "use_regex": False}
    members["added_tokens"].append({**members["added_tokens"][0], "content": "<|x|>", "id": number})
    read = Tokenizer.parse(json.dumps(members).encode())
    veil = Veil(read.control)
    assert read.encode("<|x|>", veil) == (number,)
    with pytest.raises(Exception, match=r"prompt\.forged"):
        read.encode(veil.over("<|x|>"), veil)


def test_reading_a_tokenizer_at_hand_needs_nothing_that_fetches() -> None:
    """The image's lock leaves huggingface-hub out (docs/decisions/0008)."""
    script = (
        "import sys; sys.modules['huggingface_hub'] = None\n"
        "from appliance.text.tokenizer import Tokenizer; from appliance.text.veil import Veil\n"
        "from pathlib import Path\n"
        "read = Tokenizer.parse(Path(sys.argv[1]).read_bytes()); print(len(read.encode('a cell', Veil(read.control))))"
    )
    at = little_model.folder() / "tokenizer.json"
    done = subprocess.run([sys.executable, "-c", script, str(at)], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 0


def test_the_end_of_an_answer_is_named_by_the_models_files() -> None:  # text.md L12
    made, given = tokenizer("chatml"), files("chatml")
    end, text_end = made.token_to_id("<|im_end|>"), made.token_to_id("<|endoftext|>")
    assert ModelText.of(given, context_tokens=9).stop_tokens == {end}
    more = {**given, "config.json": json.dumps({"eos_token_id": text_end}).encode()}
    assert ModelText.of(more, context_tokens=9).stop_tokens == {end, text_end}
    bare = {**given, "generation_config.json": b"{}", "tokenizer_config.json": b"{}"}
    for lacking in (
        bare,
        {**given, "generation_config.json": b'{"eos_token_id": 99999}'},
        {**given, "generation_config.json": b'{"eos_token_id": "x"}'},
        {**given, "tokenizer_config.json": b'{"eos_token": 5}'},
        {name: raw for name, raw in given.items() if name != "chat_template.jinja"},
        {name: raw for name, raw in given.items() if name != "tokenizer.json"},
        {**given, "chat_template.jinja": b"\xff"},
        {**given, "generation_config.json": b"["},
    ):
        with pytest.raises(ModelTextRefused):
            ModelText.of(lacking, context_tokens=9)


def test_a_panic_of_the_library_is_a_refusal() -> None:
    """text.md: a merge of pieces the vocabulary does not have; found by the fuzzer."""
    from tests.fuzz.fuzz_tokenizer_file import PIECES

    vocabulary = {"a": 0, "b": 1, "\b": 2, "<": 3, ">": 4}
    model = {"type": "BPE", "dro_token": None, "vocab": vocabulary, "merges": [["a", "b"]]}
    with pytest.raises(ModelTextRefused, match=r"tokenizer\.json: expected a tokenizer the library reads"):
        Tokenizer.parse(json.dumps({**PIECES, "model": model}).encode())
