"""Teaching the little model: a Llama in float32 on one thread, its weights rounded to bf16 at the end.

The bits of the result follow from the lessons, the pinned torch and the kernels it picks; `__main__` pins those to
what every x86-64 processor with AVX2 has. The first weights come from whole numbers, and no schedule needs a cosine.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from appliance.models.rotary import Rotation
from devnet.little_model.lessons import ASSISTANT, CONTROL, END, conversations, corpus

SEED: Final = 20
EPSILON: Final = 1e-5
THETA: Final = 10_000.0
BATCH: Final = 16
WARM_UP: Final = 20
_RANDOM_BITS: Final = 24


@dataclass(frozen=True, slots=True)
class Shape:
    vocabulary: int = 1024
    width: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    hidden: int = 384
    positions: int = 512

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    def parameters(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """By their names in the file."""
        width, kv = self.width, self.kv_heads * self.head_width
        yield "model.embed_tokens.weight", (self.vocabulary, width)
        for index in range(self.layers):
            layer = f"model.layers.{index}."
            yield layer + "input_layernorm.weight", (width,)
            yield layer + "self_attn.q_proj.weight", (width, width)
            yield layer + "self_attn.k_proj.weight", (kv, width)
            yield layer + "self_attn.v_proj.weight", (kv, width)
            yield layer + "self_attn.o_proj.weight", (width, width)
            yield layer + "post_attention_layernorm.weight", (width,)
            yield layer + "mlp.gate_proj.weight", (self.hidden, width)
            yield layer + "mlp.up_proj.weight", (self.hidden, width)
            yield layer + "mlp.down_proj.weight", (width, self.hidden)
        yield "model.norm.weight", (width,)


def make_tokenizer(shape: Shape) -> Tokenizer:
    """Byte-level pieces learnt from the lessons; the four control tokens come last."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=shape.vocabulary - len(CONTROL),
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    made.add_special_tokens(list(CONTROL))
    return made


def train(shape: Shape, tokenizer: Tokenizer, steps: int, told: Callable[[int, float], None]) -> dict[str, Tensor]:
    """The weights, bf16, by name."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    weights = _first_weights(shape)
    matrices = [weight for weight in weights.values() if weight.dim() == 2]
    others = [weight for weight in weights.values() if weight.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=1.0,
        betas=(0.9, 0.98),
        foreach=False,
    )
    batches = _batches(tokenizer)
    for step in range(steps):
        rate = 4e-3 * min(1.0, (step + 1) / WARM_UP, (steps - step) / (0.7 * steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        tokens, answers = next(batches)
        loss = _loss(shape, weights, tokens, answers)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0, foreach=False)
        optimizer.step()
        told(step, loss.item())
    return {name: weight.detach().to(torch.bfloat16) for name, weight in weights.items()}


def _first_weights(shape: Shape) -> dict[str, Tensor]:
    chance = random.Random(SEED)  # noqa: S311  # the same beginning in every run
    weights = {}
    for name, size in shape.parameters():
        if len(size) == 1:
            weight = torch.ones(size)
        else:
            spread = 0.06 if name.endswith("embed_tokens.weight") else 1.7 / float(size[1]) ** 0.5
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                spread /= 2.0
            numbers = [chance.getrandbits(_RANDOM_BITS) for _ in range(size[0] * size[1])]
            weight = (torch.tensor(numbers, dtype=torch.float32) / (1 << (_RANDOM_BITS - 1)) - 1.0) * spread
        weights[name] = weight.reshape(size).requires_grad_()
    return weights


def _batches(tokenizer: Tokenizer) -> Iterator[tuple[Tensor, Tensor]]:
    """Token ids, and where a token is a word of an answer: these are learnt."""
    control = {mark: tokenizer.encode(mark, add_special_tokens=False).ids[0] for mark in CONTROL}
    end = control[END]
    source = conversations(SEED)
    while True:
        rows = []
        for _ in range(BATCH):
            row: list[tuple[int, bool]] = []
            for role, words in next(source):
                row.append((control[role], False))
                said = role == ASSISTANT
                row += [(token, said) for token in [*tokenizer.encode(words, add_special_tokens=False).ids, end]]
            rows.append(row)
        longest = max(map(len, rows))
        padded = [row + [(end, False)] * (longest - len(row)) for row in rows]
        yield (
            torch.tensor([[token for token, _ in row] for row in padded]),
            torch.tensor([[said for _, said in row] for row in padded]),
        )


def _loss(shape: Shape, weights: dict[str, Tensor], tokens: Tensor, answers: Tensor) -> Tensor:
    logits = forward(shape, weights, tokens[:, :-1])
    surprise = torch.logsumexp(logits, -1) - logits.gather(-1, tokens[:, 1:, None])[..., 0]
    wanted = answers[:, 1:].to(torch.float32)
    return (surprise * wanted).sum() / wanted.sum()


def forward(shape: Shape, weights: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """Logits of every position."""
    rows, length = tokens.shape
    width = shape.head_width
    turns = [
        torch.frombuffer(bytearray(table), dtype=torch.float32).reshape(length, width // 2)
        for table in Rotation(THETA).tables(positions=length, width=width)
    ]
    past = torch.full((length, length), float("-inf")).triu(1)
    embedding = weights["model.embed_tokens.weight"]
    x = torch.nn.functional.one_hot(tokens, shape.vocabulary).to(torch.float32) @ embedding
    for index in range(shape.layers):

        def of(name: str, layer: str = f"model.layers.{index}.") -> Tensor:
            return weights[f"{layer}{name}.weight"]

        h = _normed(x, of("input_layernorm"))
        q = _turned((h @ of("self_attn.q_proj").T).view(rows, length, shape.heads, width), *turns)
        k = _turned((h @ of("self_attn.k_proj").T).view(rows, length, shape.kv_heads, width), *turns)
        v = (h @ of("self_attn.v_proj").T).view(rows, length, shape.kv_heads, width).transpose(1, 2)
        k, v = (each.repeat_interleave(shape.heads // shape.kv_heads, 1) for each in (k, v))
        scores = q @ k.transpose(2, 3) * float(width) ** -0.5 + past
        seen = (torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(rows, length, shape.width)
        x = x + seen @ of("self_attn.o_proj").T
        h = _normed(x, of("post_attention_layernorm"))
        gate = h @ of("mlp.gate_proj").T
        x = x + (gate * torch.sigmoid(gate) * (h @ of("mlp.up_proj").T)) @ of("mlp.down_proj").T
    return _normed(x, weights["model.norm.weight"]) @ embedding.T


def _normed(x: Tensor, gain: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + EPSILON) * gain


def _turned(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    c, s = cosines[:, None, :], sines[:, None, :]
    return torch.cat((first * c - second * s, second * c + first * s), -1).transpose(1, 2)
