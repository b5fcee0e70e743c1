"""answer.md A14 to A20: what an answer shows, and what its client notices."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given

from attestation.receipts.outcome import Finish, Opening, Outcome, answer_digest
from attestation.sealed.buckets import STEP, answer_frames, rung
from attestation.sealed.errors import AnswerRefused
from attestation.sealed.frames import FRAME_BYTES, PLAIN_BYTES, ROOM_BYTES, AnswerKeys, FrameReader, FrameWriter, split
from foundation.secrecy import Secret

REPLY = Secret(b"\x21" * 32)
FIELDS = {"config": b"\x01" * 32, "gateway": b"\x00\x01", "height": 3, "index": 1, "number": 7, "request": b"\x44" * 32}


def keys(**other: object) -> AnswerKeys:
    return AnswerKeys.derive(REPLY, **{**FIELDS, **other})  # type: ignore[arg-type]


def outcome_of(words: Sequence[bytes], tokens: int) -> Outcome:
    return Outcome(Finish.STOP, 5, tokens, answer_digest(words), b"\x66" * 32)


def written(words: Sequence[bytes], rest: bytes = b"", of: AnswerKeys | None = None) -> tuple[int, list[bytes]]:
    writer = FrameWriter(of or keys())
    frames = [frame for each in words if (frame := writer.feed(each)) is not None]
    writer.hear_rest(rest)
    size, left = writer.end(outcome_of([*words, rest], len(words)))
    return size, frames + left


def read(frames: Sequence[bytes], of: AnswerKeys | None = None) -> tuple[bytes, Outcome]:
    reader = FrameReader(of or keys())
    return b"".join(map(reader.feed, frames)), reader.end()


TOKENS = st.lists(st.binary(max_size=40), max_size=70)


@given(TOKENS, st.binary(max_size=300))
def test_words_come_out_as_they_went_in(words: list[bytes], rest: bytes) -> None:
    size, frames = written(words, rest)
    out, outcome = read(frames)
    assert (out, outcome) == (b"".join(words) + rest, outcome_of([*words, rest], len(words)))
    assert len(frames) == answer_frames(size)
    assert {len(frame) for frame in frames} == {FRAME_BYTES}
    assert list(split(b"".join(frames))) == frames


@given(TOKENS, TOKENS)
def test_what_can_be_seen_of_an_answer_is_its_rung(one: list[bytes], other: list[bytes]) -> None:
    """answer.md A3, A15, A18: two answers of one rung have the same number of frames of the same length."""
    (size, frames), (other_size, other_frames) = written(one), written(other)
    assert (len(frames) == len(other_frames)) is (size == other_size)
    assert {len(frame) for frame in (*frames, *other_frames)} == {FRAME_BYTES}


@given(st.lists(st.binary(max_size=8), max_size=200))
def test_the_rung_is_that_of_the_tokens_unless_they_are_long(words: list[bytes]) -> None:
    """answer.md A18: at eight bytes to a token or fewer, their number alone decides."""
    assert written(words)[0] == rung(len(words))


@given(TOKENS)
def test_frames_are_cut_by_the_count_of_tokens_alone(words: list[bytes]) -> None:
    """answer.md A17: when a frame comes while the engine speaks says how many tokens there were, not what they are."""
    writer, empty = FrameWriter(keys()), FrameWriter(keys())
    moments = [writer.feed(each) is not None for each in words]
    assert moments == [(count + 1) % STEP == 0 for count in range(len(words))]
    assert moments == [empty.feed(b"") is not None for _ in words]


def test_a_flood_of_bytes_in_one_token_waits_its_turn() -> None:
    size, frames = written([b"x" * 1000, *[b"y"] * 15])
    assert (size, len(frames)) == (128, 9)  # 1015 bytes need eight frames, so the rung of eight
    assert read(frames)[0] == b"x" * 1000 + b"y" * 15


def test_frames_look_like_nothing() -> None:
    """Equal words at two places of an answer, or in two answers, have nothing in common."""
    _, frames = written([b"a"] * 64)
    _, elsewhere = written([b"a"] * 64, of=keys(index=2))
    assert len({*frames, *elsewhere}) == len(frames) + len(elsewhere)


# -- what the client notices

ANSWER = written([b"%02d " % k for k in range(40)])[1]


@pytest.mark.parametrize("name", FIELDS)
def test_an_answer_is_for_one_request_at_one_place(name: str) -> None:
    """answer.md A14"""
    others = {"config": bytes(32), "gateway": b"\x00\x02", "height": 4, "index": 2, "number": 8, "request": bytes(32)}
    with pytest.raises(AnswerRefused) as refused:
        read(ANSWER, keys(**{name: others[name]}))
    assert refused.value.code == "answer.frame"
    with pytest.raises(AnswerRefused):
        read(ANSWER, AnswerKeys.derive(Secret(bytes(32)), **FIELDS))  # type: ignore[arg-type]


@given(st.integers(0, len(ANSWER) - 1), st.integers(0, FRAME_BYTES - 1), st.integers(1, 255))
def test_every_byte_of_every_frame_counts(number: int, at: int, bits: int) -> None:
    changed = bytearray(ANSWER[number])
    changed[at] ^= bits
    with pytest.raises(AnswerRefused) as refused:
        read([*ANSWER[:number], bytes(changed), *ANSWER[number + 1 :]])
    assert refused.value.code == "answer.frame"


@given(st.permutations(range(len(ANSWER))))
def test_frames_in_another_order_are_refused(order: list[int]) -> None:
    assume(order != sorted(order))
    with pytest.raises(AnswerRefused):
        read([ANSWER[number] for number in order])


@given(st.integers(0, len(ANSWER) - 1))
def test_a_frame_left_out_or_said_twice_is_refused(number: int) -> None:
    for frames in (ANSWER[:number] + ANSWER[number + 1 :], ANSWER[: number + 1] + ANSWER[number:]):
        with pytest.raises(AnswerRefused):
            read(frames)


def test_an_answer_that_was_cut_off_has_no_end() -> None:
    """answer.md A20: the words so far are the cell's; that they are all is never said."""
    for count in range(len(ANSWER)):
        reader = FrameReader(keys())
        for frame in ANSWER[:count]:
            reader.feed(frame)
        with pytest.raises(AnswerRefused) as refused:
            reader.end()
        assert refused.value.code == "answer.truncated"


def test_frames_of_another_answer_are_not_taken_in_between() -> None:
    _, other = written([b"other "] * 40, of=keys(height=4))
    for number in range(len(ANSWER)):
        with pytest.raises(AnswerRefused):
            read([*ANSWER[:number], other[number], *ANSWER[number + 1 :]])


@pytest.mark.parametrize("frame", [b"", bytes(FRAME_BYTES - 1), bytes(FRAME_BYTES + 1), bytes(FRAME_BYTES)])
def test_what_is_no_frame(frame: bytes) -> None:
    with pytest.raises(AnswerRefused):
        FrameReader(keys()).feed(frame)
    with pytest.raises(AnswerRefused):
        list(split(frame + bytes(FRAME_BYTES - len(frame) % FRAME_BYTES + 1)))


def forged(*plain: bytes) -> list[bytes]:
    """Frames that a cell with another program would make: sealed alike, holding something else. The last is last."""
    cipher = keys().cipher
    return [
        cipher.encrypt(bytes([0, 0, 0, number == len(plain) - 1]) + number.to_bytes(8, "big"), each, None)
        for number, each in enumerate(plain)
    ]


def holding(words: bytes) -> bytes:
    return (len(words).to_bytes(2, "big") + words).ljust(PLAIN_BYTES, b"\0")


def ending(words: bytes, tokens: int = 1, salt: bytes | None = None) -> bytes:
    return holding(Opening(keys().salt if salt is None else salt, outcome_of([words], tokens)).encode())


@pytest.mark.parametrize(
    ("plain", "code"),
    [
        (lambda: [holding(b"ok"), ending(b"ok")], None),
        (lambda: [holding(b"ok")[:-1] + b"\1", ending(b"ok")], "answer.padding"),
        (lambda: [b"\xff" * PLAIN_BYTES, ending(b"ok")], "answer.padding"),
        (lambda: [(ROOM_BYTES + 1).to_bytes(2, "big") + bytes(ROOM_BYTES), ending(b"ok")], "answer.padding"),
        (lambda: [holding(b"ok"), ending(b"other")], "answer.output"),
        (lambda: [ending(b"")], "answer.rung"),
        (lambda: [*[holding(b"")] * 5, ending(b"")], "answer.rung"),
        (lambda: [holding(b"ok"), ending(b"ok", tokens=17)], "answer.rung"),
        (lambda: [holding(b"ok"), ending(b"ok", salt=bytes(32))], "answer.outcome"),
        (lambda: [holding(b"ok"), holding(b"no opening")], "answer.outcome"),
        (lambda: [holding(b""), holding(Opening(keys().salt, Outcome.refusal("a.code")).encode())], "answer.outcome"),
    ],
)
def test_a_cell_that_seals_nonsense_is_noticed(plain: Callable[[], list[bytes]], code: str | None) -> None:
    """answer.md A15, A19, A20"""
    if code is None:
        assert read(forged(*plain()))[0] == b"ok"
        return
    with pytest.raises(AnswerRefused) as refused:
        read(forged(*plain()))
    assert refused.value.code == code


def test_nothing_comes_after_the_last_frame() -> None:
    reader = FrameReader(keys())
    for frame in ANSWER:
        reader.feed(frame)
    with pytest.raises(AnswerRefused) as refused:
        reader.feed(ANSWER[0])
    assert refused.value.code == "answer.after-end"


def test_the_last_frame_has_room_for_the_widest_outcome() -> None:
    widest = Outcome(Finish.TOOL_CALLS, 1 << 22, 1 << 22, b"\xff" * 32, b"\xff" * 32)
    assert len(Opening(b"\xff" * 32, widest).encode()) <= ROOM_BYTES


def test_an_answer_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """answer.md A20: a cell cannot make its client keep more frames than an answer may have."""
    monkeypatch.setattr("attestation.sealed.frames.FRAMES_MAX", 3)
    reader = FrameReader(keys())
    for frame in ANSWER[:3]:
        reader.feed(frame)
    with pytest.raises(AnswerRefused) as refused:
        reader.feed(ANSWER[3])
    assert refused.value.code == "answer.frames"
