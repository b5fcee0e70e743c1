"""text.md L11 to L16: tokens to words, in pieces that are whole and a total that no cutting changes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.text import ByteText, Finish, Listener
from attestation.consensus.chat import ChatRequest, Sampling, UserMessage
from foundation.secrecy import Prompt


def heard(
    tokens: Sequence[bytes], stops: Sequence[str] = (), *, full: bool = False
) -> tuple[bytes, Finish, list[bytes]]:
    """Everything said about tokens that stand for these bytes, the finish, and what was said when."""
    listener = Listener(tokens, stops)
    said = []
    for number in range(len(tokens)):
        said.append(listener.feed(number))
        if listener.stopped:
            break
    end = listener.end(full=full)
    return b"".join([*said, end.words]), end.finish, said


@st.composite
def cut(draw: st.DrawFn, raw: bytes) -> list[bytes]:
    edges = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    return [raw[a:b] for a, b in zip([0, *edges], [*edges, len(raw)], strict=True)]


WORDS = st.text("abc日é🙂\n", max_size=12)
STOPS = st.lists(st.text("abc日", min_size=1, max_size=4), max_size=3)


@given(data=st.data(), raw=st.binary(max_size=12) | WORDS.map(str.encode), stops=STOPS)
def test_how_the_bytes_were_cut_into_tokens_changes_nothing(data: st.DataObject, raw: bytes, stops: list[str]) -> None:
    # text.md L13 to L15
    whole, finish, _ = heard([raw], stops)
    again, finish_again, said = heard(data.draw(cut(raw)), stops)
    assert (again, finish_again) == (whole, finish)
    for piece in said:
        piece.decode()  # no piece ends inside a character


@given(words=WORDS, stops=STOPS)
def test_an_answer_ends_before_the_stop_text_that_is_complete_first(words: str, stops: list[str]) -> None:
    # text.md L14: by its definition, letter by letter
    expected, at_all = words, False
    for end in range(1, len(words) + 1):
        starts = [end - len(stop) for stop in stops if words[:end].endswith(stop)]
        if starts:
            expected, at_all = words[: min(starts)], True
            break
    said, _, pieces = heard([letter.encode() for letter in words], stops)
    assert said.decode() == expected
    if not at_all:
        assert said.decode() == words
    # Nothing that was said is taken back: what is held may still become a stop text.
    assert expected.startswith(b"".join(pieces).decode())


@pytest.mark.parametrize(
    ("tokens", "stops", "said"),
    [
        ([b"one EN", b"D two"], ["END"], b"one "),
        ([b"one EN", b"C two"], ["END"], b"one ENC two"),
        ([b"a", b"b", b"c"], ["b", "abc"], b"a"),
        ([b"\xe6\x97", b"\xa5"], [], "日".encode()),
        ([b"\xe6\x97", b"x"], [], "\ufffdx".encode()),
        ([b"\xe6\x97"], [], "\ufffd".encode()),
        ([b"\xf0\x9f", b"\x99\x82", b" \xe6", b"\x97\xa5"], ["\u65e5"], "🙂 ".encode()),
        ([b"ab"], ["abc"], b"ab"),
        ([], ["a"], b""),
    ],
)
def test_examples(tokens: list[bytes], stops: list[str], said: bytes) -> None:  # text.md L13, L14
    assert heard(tokens, stops)[0] == said


def test_half_a_character_is_never_said() -> None:  # text.md L13
    assert heard([b"a\xe6", b"\x97", b"\xa5"])[2] == [b"a", b"", "日".encode()]


@pytest.mark.parametrize(
    ("stops", "full", "finish"),
    [([], False, Finish.STOP), ([], True, Finish.LENGTH), (["b"], True, Finish.STOP), (["z"], True, Finish.LENGTH)],
)
def test_why_an_answer_ended(stops: list[str], full: bool, finish: Finish) -> None:  # text.md L16
    assert heard([b"a", b"b"], stops, full=full)[1] is finish


def test_a_token_of_no_tokenizer_says_nothing_and_counts() -> None:  # text.md L11
    listener = Listener([b"a"], ())
    assert [listener.feed(number) for number in (0, 7, 0)] == [b"a", b"", b"a"]
    assert listener.tokens == 3


def test_the_first_space_of_pieces_with_a_mark_for_it() -> None:  # text.md L11
    listener = Listener([b" a", b" b"], (), strips_first_space=True)
    assert [listener.feed(number) for number in (0, 1, 0)] == [b"a", b" b", b" a"]


def test_bytes_are_heard_alike() -> None:
    chat = ChatRequest("m", (UserMessage(Prompt(b"x")),), None, Sampling(stop=(Prompt(b"lo"),)))
    listener = ByteText().listen(chat)
    assert b"".join(listener.feed(token) for token in b"hello") == b"hel"
    assert listener.stopped


def test_nothing_of_an_answer_is_in_a_rendering() -> None:
    end = Listener([b"secret"], ()).end(full=False)
    assert "words" not in repr(end)
