"""What a determinism matrix asks: requests out of a seed, some with answers that go to and fro between two tokens.

Those give speculation something to guess, rightly and wrongly: a bias lifts both alike, and the logits choose.
"""

from __future__ import annotations

from random import Random
from typing import Final

from appliance.engine.protocol import MICRO, EngineRequest, Sampling

TEMPERATURES: Final = (0.0, 0.7, 1.0)
SHORT: Final = 5  # tokens of a prompt that the plainest kernels can compute a thousand times
LIFTED: Final = 40


def seeded(*words: object) -> Random:
    """A generator of its own for each part of the matrix, so that one part can be run again alone."""
    return Random(" ".join(map(str, words)))  # noqa: S311 - meant to be the same every time


def request(dice: Random, temperature: float, vocabulary: int, *, prompt: int, tokens: int) -> EngineRequest:
    circle = [dice.randrange(3, vocabulary) for _ in range(prompt if dice.random() < 0.5 else dice.randint(2, 9))]
    biased = sorted(dice.sample(range(3, vocabulary), 2)) if dice.random() < 0.5 else []
    return EngineRequest(
        prompt=tuple((circle * prompt)[:prompt]),
        max_tokens=tokens,
        seed=dice.randbytes(32),
        sampling=Sampling(
            temperature_micro=int(temperature * MICRO),
            top_k=dice.choice((0, 0, 40)),
            top_p_micro=dice.choice((MICRO, 950_000)),
            repetition_penalty_micro=dice.choice((MICRO, MICRO, 1_100_000)),
            logit_bias=tuple((token, LIFTED * MICRO) for token in biased),
        ),
    )


def short(dice: Random, temperature: float, vocabulary: int) -> EngineRequest:
    return request(dice, temperature, vocabulary, prompt=dice.randint(2, SHORT), tokens=3)


def longer(dice: Random, temperature: float, vocabulary: int) -> EngineRequest:
    return request(dice, temperature, vocabulary, prompt=dice.randint(10, 44), tokens=dice.randint(4, 14))
