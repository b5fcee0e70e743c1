"""Inputs for sampling: drawn from a seed, the hard ones often. And the committed vectors, which this file wrote.

python -m tests.sampling_cases      writes tests/vectors/sampling.json anew
"""

from __future__ import annotations

import json
import math
import random
import struct
from array import array
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from appliance.engine.protocol import MICRO, Sampling
from appliance.engine.sampling.sampler import Sampler

VECTORS: Final = Path(__file__).parent / "vectors" / "sampling.json"


@dataclass(frozen=True)
class Case:
    logits: array[float]
    sampling: Sampling
    seed: bytes
    prompt: tuple[int, ...]
    steps: int = 3

    def tokens(self) -> list[int]:
        sampler = Sampler(self.sampling, self.seed, self.prompt, len(self.logits))
        return [sampler.choose(self.logits) for _ in range(self.steps)]

    def written(self) -> dict[str, Any]:
        return {
            "logits": [struct.pack(">f", each).hex() for each in self.logits],
            "sampling": {**asdict(self.sampling), "logit_bias": [list(each) for each in self.sampling.logit_bias]},
            "seed": self.seed.hex(),
            "prompt": list(self.prompt),
            "tokens": self.tokens(),
        }

    @classmethod
    def read(cls, case: dict[str, Any]) -> Self:
        sampling = case["sampling"]
        return cls(
            array("f", [struct.unpack(">f", bytes.fromhex(each))[0] for each in case["logits"]]),
            Sampling(**{**sampling, "logit_bias": tuple((token, bias) for token, bias in sampling["logit_bias"])}),
            bytes.fromhex(case["seed"]),
            tuple(case["prompt"]),
            len(case["tokens"]),
        )


def logit(kind: str, draw: random.Random, vocabulary: int) -> float:
    gaussian = draw.gauss(0, 2.5)
    match kind:
        case "peaked":
            return -2 * math.log(1 + draw.randrange(vocabulary)) + gaussian / 5
        case "tied":
            return float(draw.randrange(-4, 4))
        case "equal":
            return 3.0
        case "huge":
            return draw.choice([3.4e38, -3.4e38, 1e30, gaussian])
        case "special":
            return draw.choice([math.nan, math.inf, -math.inf, gaussian, gaussian, gaussian, -0.0, 0.0])
        case "hopeless":
            return draw.choice([math.nan, -math.inf])
        case _:
            return gaussian


KINDS: Final = ("flat", "flat", "peaked", "peaked", "tied", "equal", "huge", "special", "hopeless")


def drawn(draw: random.Random, sizes: tuple[int, ...] = (1, 2, 3, 63, 64, 65, 129, 300, 1000)) -> Case:
    vocabulary, kind = draw.choice(sizes), draw.choice(KINDS)
    biased = [draw.randrange(2 * vocabulary) for _ in range(draw.choice([0, 0, 3]))]
    biases = {token: draw.randrange(-(10**9), 10**9 + 1) for token in biased}
    sampling = Sampling(
        temperature_micro=draw.choice([0, 1, 300_000, MICRO, MICRO, 2 * MICRO, 100 * MICRO]),
        top_k=draw.choice([0, 0, 1, 2, 5, 50, vocabulary, vocabulary + 7]),
        top_p_micro=draw.choice([1, 10, 500_000, 900_000, 999_999, MICRO, MICRO]),
        min_p_micro=draw.choice([0, 0, 1, 50_000, 500_000, MICRO]),
        repetition_penalty_micro=draw.choice([MICRO, MICRO, 1_300_000, 10_000]),
        presence_penalty_micro=draw.choice([0, 500_000, -500_000]),
        frequency_penalty_micro=draw.choice([0, 0, 300_000, -100 * MICRO]),
        logit_bias=tuple(sorted(biases.items())),
    )
    logits = array("f", [logit(kind, draw, vocabulary) for _ in range(vocabulary)])
    return Case(logits, sampling, draw.randbytes(32), tuple(draw.randrange(vocabulary) for _ in range(4)))


def vectors() -> list[dict[str, Any]]:
    draw = random.Random("sampling vectors")
    cases = [drawn(draw, (1, 2, 5, 17, 70)) for _ in range(60)]
    row = array("f", [draw.gauss(0, 2.5) for _ in range(200)])
    plain = Case(row, Sampling(temperature_micro=MICRO), bytes(32), (), 8)
    cases += [plain, replace(plain, sampling=Sampling(temperature_micro=700_000, top_p_micro=900_000))]
    return [case.written() for case in cases]


if __name__ == "__main__":
    VECTORS.write_text("[\n" + ",\n".join(json.dumps(case) for case in vectors()) + "\n]\n", encoding="utf-8")
