"""The engine `torch-1`: the same families with plain PyTorch. A fallback, and a second opinion on the arithmetic.

Its bits are PyTorch's: they hold for one version, one number of threads and one kind of processor, all of which are in
its fingerprint; prefill and decode may differ in the last bits. Needs the extra `engine`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from appliance.engine.errors import EngineRefused
from appliance.engine.fixed.architecture import Format, Weights, names
from appliance.engine.fixed.proven import open_library
from appliance.engine.protocol import EngineRequest, Step
from appliance.engine.sampling.native import NativeSampler, NativeSampling
from appliance.engine.trace import Trace
from foundation import cbor
from foundation.digests import tagged_sha256

if TYPE_CHECKING:
    import torch

    Past = list[tuple[torch.Tensor, torch.Tensor]]

ID: Final = "torch-1"


class TorchEngine:
    """Implements `appliance.engine.protocol.Engine`."""

    def __init__(self, weights: Weights, *, threads: int = 1) -> None:
        import torch  # noqa: PLC0415 - a cell with another engine has no torch

        torch.set_num_threads(threads)
        self._torch: Final = torch
        self.architecture: Final = weights.architecture
        if self.architecture.quantization.format is not Format.BF16:
            raise EngineRefused("engine.weights", expected="weights in bf16", got=weights.architecture.quantization)
        self._weights: Final = {name: self._tensor(weights, name) for name, _ in names(weights.architecture)}
        pairs = weights.architecture.rotary_width // 2
        self._cosines, self._sines = (
            torch.frombuffer(bytearray(table), dtype=torch.float32).view(-1, pairs) for table in weights.rotary
        )
        self._sampling: Final = NativeSampling(open_library().kernels, weights.architecture.vocabulary)
        self._fingerprint: Final = tagged_sha256(
            "anchorhold/engine/torch/v1",
            cbor.encode([ID, str(torch.__version__), threads, torch.backends.cpu.get_cpu_capability()]),
        )

    def _tensor(self, weights: Weights, name: str) -> torch.Tensor:
        tensor = weights.tensor(name)
        raw = self._torch.frombuffer(bytearray(tensor.data), dtype=self._torch.bfloat16)
        return raw.view(tensor.shape).float()

    @property
    def id(self) -> str:
        return ID

    @property
    def fingerprint(self) -> bytes:
        return self._fingerprint

    def run(self, request: EngineRequest) -> Iterator[Step]:
        """Raises `EngineRefused` at once for a prompt without room."""
        a = self.architecture
        if not 1 <= len(request.prompt) <= a.positions_max or max(request.prompt) >= a.vocabulary:
            raise EngineRefused(
                "engine.prompt-length",
                expected=f"1 to {a.positions_max} tokens of the vocabulary",
                got=len(request.prompt),
            )
        return self._steps(request, NativeSampler(self._sampling, request.sampling, request.seed, request.prompt))

    def _steps(self, request: EngineRequest, sampler: NativeSampler) -> Iterator[Step]:
        trace = Trace()
        past: Past = []
        tokens = list(request.prompt)
        room = min(request.max_tokens, self.architecture.positions_max - len(tokens) + 1)
        for _ in range(room):
            logits = self.logits(tokens, past)[-1].contiguous()
            token = sampler.choose_at(logits.data_ptr())
            if token in request.stop_tokens:
                return
            yield trace.add(token, sampler.led())
            tokens = [token]

    def logits(self, tokens: list[int], past: Past) -> torch.Tensor:
        """A row of logits after each token; `past` holds what came before and grows."""
        torch, a, w = self._torch, self.architecture, self._weights
        with torch.inference_mode():
            start = past[0][0].shape[1] if past else 0
            x = w["model.embed_tokens.weight"][torch.tensor(tokens)]
            for index in range(a.layers):
                name = f"model.layers.{index}."
                x = x + self._attention(index, self._norm(x, f"{name}input_layernorm"), past, start)
                h = self._norm(x, f"{name}post_attention_layernorm")
                gate = torch.nn.functional.silu(self._linear(h, f"{name}mlp.gate_proj"))
                x = x + self._linear(gate * self._linear(h, f"{name}mlp.up_proj"), f"{name}mlp.down_proj")
            return self._linear(self._norm(x, "model.norm"), "model.embed_tokens" if a.tied else "lm_head")

    def _linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        x = x.bfloat16().float()  # as `fixed` rounds what enters a product
        return self._torch.nn.functional.linear(x, self._weights[f"{name}.weight"], self._weights.get(f"{name}.bias"))

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        root = self._torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.architecture.epsilon)
        return x * root * self._weights[f"{name}.weight"]

    def _turn(self, x: torch.Tensor, start: int) -> torch.Tensor:
        half = self.architecture.rotary_width // 2
        c, s = (table[start : start + x.shape[1]] for table in (self._cosines, self._sines))
        a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
        return self._torch.cat([a * c - b * s, b * c + a * s, rest], -1)

    def _attention(self, index: int, h: torch.Tensor, past: Past, start: int) -> torch.Tensor:
        torch, a = self._torch, self.architecture
        name = f"model.layers.{index}.self_attn."
        q, k, v = (
            self._linear(h, f"{name}{part}_proj").view(len(h), -1, a.head_width).transpose(0, 1) for part in "qkv"
        )
        if a.head_norm:
            q, k = self._norm(q, f"{name}q_norm"), self._norm(k, f"{name}k_norm")
        # queries, keys and values are rounded to bf16, as `fixed` rounds them
        q, k, v = (each.bfloat16().float() for each in (self._turn(q, start), self._turn(k, start), v))
        if start:
            k, v = torch.cat([past[index][0], k], 1), torch.cat([past[index][1], v], 1)
            past[index] = (k, v)
        else:
            past.append((k, v))
        sees = self._sees(index, start, len(h))
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=sees, enable_gqa=True)
        return self._linear(mixed.transpose(0, 1).reshape(len(h), -1), f"{name}o_proj")

    def _sees(self, index: int, start: int, count: int) -> torch.Tensor:
        a = self.architecture
        back = self._torch.arange(start, start + count)[:, None] - self._torch.arange(start + count)[None, :]
        if a.window is None or index < a.window_from:
            return back >= 0
        return (back >= 0) & (back < a.window)
