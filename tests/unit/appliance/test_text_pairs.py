"""answer.md A23, window.md N8: generated requests and answers, plain and sealed, three families, kernels side by side.

`ANCHORHOLD_PAIRS` says how many; `python -m tests.text_pairs` runs any number and counts how they ended.
"""

from __future__ import annotations

import random

import pytest

from appliance.text import model_text
from attestation.consensus.chat import ChatRequest, Tool, UserMessage
from foundation.secrecy import Prompt
from tests import calls_reference, little_text
from tests.switches import sized
from tests.text_grammar import FOUND, Drawn, Pair, pair_of
from tests.text_pairs import check, kernels

PAIRS = sized("ANCHORHOLD_PAIRS")
SHARDS = 4
OFFERS = ChatRequest("m", (UserMessage(Prompt(b"go")),), (Tool(Prompt(b"f"), None, None),)).encode()


def saying(family: str, words: str, *, sealed: bool = False) -> Pair:
    """A request that offers the tool `f`, answered with `words`."""
    tokens = little_text.tokenizer(family).encode(words, add_special_tokens=False).ids
    return Pair(family, OFFERS, sealed, False, tuple(tokens))


@pytest.mark.sized
@pytest.mark.parametrize("shard", range(SHARDS))
def test_every_pair_ends_in_a_receipt_whatever_the_kernels(shard: int) -> None:
    """answer.md A23, window.md N8"""
    choices = Drawn(random.Random(shard))
    finishes = set()
    for number in range(PAIRS // SHARDS):
        pair = pair_of(choices)
        try:
            finishes.add(check(pair).finish)
        except BaseException as reason:
            reason.add_note(f"pair {number} of seed {shard}: {pair}")
            raise
    assert kernels()
    assert len(finishes) > 5  # it reaches answers of several ends, and refusals


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("family", little_text.FAMILIES)
@pytest.mark.parametrize("case", range(len(FOUND)))
def test_what_once_broke_a_cell_is_answered(case: int, family: str, sealed: bool) -> None:
    """answer.md A23, text.md L17, L31"""
    assert not check(saying(family, FOUND[case], sealed=sealed)).refused


def test_the_check_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that raises over a lone surrogate is found out: as a fault with its receipt."""
    monkeypatch.setattr(model_text, "read_calls", calls_reference.read_calls)
    with pytest.raises(AssertionError, match="text failed over it"):
        check(saying("chatml", FOUND[0]))
