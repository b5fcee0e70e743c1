"""docs/spec/engine.md, "The arithmetic", as plainly as it can be said: one operation after the other, in Python.

Slow on purpose and written apart from the kernels: floats are Python's doubles rounded to float32 after each
operation (which rounds the same as one operation in float32 does), and a fused multiply-add is rounded to odd first.
"""

from __future__ import annotations

import math
import struct

from appliance.engine.fixed.architecture import LANES, PIECE, Architecture, Format, Tensor, Weights

SPAN = 128
_F, _I = struct.Struct("<f"), struct.Struct("<I")
_D = struct.Struct("<d")


def f32(x: float) -> float:
    try:
        return _F.unpack(_F.pack(x))[0]
    except OverflowError:
        return math.copysign(math.inf, x)


def fma(a: float, b: float, c: float) -> float:
    product = a * b                     # exact: 24 bits by 24 bits
    total = product + c
    back = total - product
    error = (product - (total - back)) + (c - back)
    if error and math.isfinite(total) and not _D.pack(total)[0] & 1:
        total = math.nextafter(total, math.copysign(math.inf, error))
    return f32(total)


def narrow(x: float) -> int:
    """X5: float32 to bf16."""
    if math.isnan(x):
        return 0x7FC0
    bits = _I.unpack(_F.pack(x))[0]
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def widen(bits: int) -> float:
    return _F.unpack(_I.pack(bits << 16))[0]


def lane_tree(lanes: list[float]) -> float:
    """X3."""
    for distance in (1, 16, 8, 4, 2):
        lanes = [f32(lanes[i] + lanes[i ^ distance]) for i in range(LANES)]
    return lanes[0]


def dot(w: list[float], x: list[float]) -> float:
    """X4. `w` and `x` are whole blocks."""
    lanes = [0.0] * LANES
    for k, (a, b) in enumerate(zip(w, x, strict=True)):
        lanes[k % LANES] = fma(a, b, lanes[k % LANES])
    return lane_tree(lanes)


def blocks(numbers: list[float], filling: float = 0.0) -> list[float]:
    return numbers + [filling] * (-len(numbers) % LANES)


def row_of(tensor: Tensor, n: int, group: int) -> list[float]:
    """X6 and X7: row n as float32, filled up to whole blocks."""
    columns = tensor.shape[-1]
    data = tensor.data.cast("B")
    if tensor.format is Format.BF16:
        raw = bytes(data[2 * n * columns:2 * (n + 1) * columns])
        return blocks([widen(b) for (b,) in struct.iter_unpack("<H", raw)])
    groups = -(-columns // group)
    assert tensor.scales is not None
    raw = bytes(tensor.scales[2 * n * groups:2 * (n + 1) * groups])
    scales = [widen(s) for (s,) in struct.iter_unpack("<H", raw)]
    if tensor.format is Format.INT8:
        codes = [b - 256 if b > 127 else b for b in data[n * columns:(n + 1) * columns]]
    else:
        stride = -(-columns // PIECE) * (PIECE // 2)
        codes = [int4_code(bytes(data[n * stride:(n + 1) * stride]), k) for k in range(columns)]
    codes += [0] * (-columns % LANES)
    return [f32(code * scales[k // group]) for k, code in enumerate(codes)]


def int4_code(row: bytes, k: int) -> int:
    """X7: word i of a piece holds the codes of lanes 2 i and 2 i + 1 of its four blocks, lowest bits first."""
    piece, rest = divmod(k, PIECE)
    block, lane = divmod(rest, LANES)
    word = int.from_bytes(row[piece * 64 + lane // 2 * 4:][:4], "little")
    return (word >> 4 * (2 * block + lane % 2) & 15) - 8


def product(tensor: Tensor, x: list[float], group: int = 0) -> list[float]:
    filled = blocks(x)
    return [dot(row_of(tensor, n, group), filled) for n in range(tensor.shape[0])]


def exponential(x: float) -> float:
    """X9."""
    x = min(max(-87.0, x), 88.0)        # of NaN: -87, for NaN is never greater
    n = f32(f32(f32(x * float.fromhex("0x1.715476p+0")) + 12582912.0) - 12582912.0)
    r = fma(n, float.fromhex("-0x1.62p-1"), x)
    r = fma(n, float.fromhex("-0x1.c85fep-10"), r)
    q = float.fromhex("0x1.6d117cp-10")
    for c in ("0x1.120be2p-7", "0x1.555518p-5", "0x1.5554dcp-3", "0x1p-1"):
        q = fma(q, r, float.fromhex(c))
    e = fma(f32(r * r), q, f32(r + 1.0))
    return f32(e * 2.0 ** int(n))


def norm(x: list[float], gain: list[float], epsilon: float) -> list[float]:
    """X10."""
    filled = blocks(x)
    mean = f32(dot(filled, filled) / float(len(x)))
    r = f32(1.0 / f32(math.sqrt(f32(mean + epsilon))))
    return [f32(f32(a * r) * g) for a, g in zip(x, gain, strict=True)]


def turn(head: list[float], cosines: list[float], sines: list[float]) -> list[float]:
    """X11."""
    half = len(cosines)
    out = list(head)
    for d in range(half):
        a, b = head[d], head[d + half]
        out[d] = f32(f32(a * cosines[d]) - f32(b * sines[d]))
        out[d + half] = f32(f32(b * cosines[d]) + f32(a * sines[d]))
    return out


def attend(query: list[float], keys: list[list[float]], values: list[list[float]], low: int) -> list[float]:
    """X12 to X14: positions low .. len(keys) - 1."""
    width, top = len(query), len(keys) - 1
    scale = f32(1.0 / f32(math.sqrt(float(width))))
    filled = blocks(query)
    scores = {i: f32(dot(blocks(keys[i]), filled) * scale) for i in range(low, top + 1)}
    most = -math.inf
    for score in scores.values():
        most = max(most, score)         # NaN is never greater
    weights = {i: exponential(f32(score - most)) for i, score in scores.items()}
    lanes = [0.0] * LANES
    for i in range(low // LANES * LANES, (top // LANES + 1) * LANES):
        lanes[i % LANES] = f32(lanes[i % LANES] + weights.get(i, 0.0))
    inverse = f32(1.0 / lane_tree(lanes))
    out = []
    for d in range(width):
        total = 0.0
        for span in range(low // SPAN, top // SPAN + 1):
            part = 0.0
            for i in range(max(low, span * SPAN), min(top + 1, (span + 1) * SPAN)):
                part = fma(weights[i], values[i][d], part)
            total = f32(total + part)
        out.append(f32(total * inverse))
    return out


def gated(g: float, up: float) -> float:
    """X15."""
    return f32(f32(g / f32(1.0 + exponential(f32(0.0 - g)))) * up)


class Reference:
    """One sequence, token by token."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.a: Architecture = weights.architecture
        self.epsilon = f32(self.a.epsilon)
        self.group = self.a.quantization.group
        self.position = 0
        self.keys = [[[] for _ in range(self.a.kv_heads)] for _ in range(self.a.layers)]
        self.values = [[[] for _ in range(self.a.kv_heads)] for _ in range(self.a.layers)]
        self.tables = [list(table.cast("B").cast("f")) for table in weights.rotary]
        self.rows: dict[str, list[list[float]]] = {}

    def _matrix(self, name: str) -> list[list[float]]:
        if name not in self.rows:
            tensor = self.weights.tensor(name)
            self.rows[name] = [row_of(tensor, n, self.group) for n in range(tensor.shape[0])]
        return self.rows[name]

    def _vector(self, name: str) -> list[float]:
        tensor = self.weights.tensor(name)
        return row_of(Tensor(tensor.format, (1, *tensor.shape), tensor.data), 0, 0)[:tensor.shape[0]]

    def _product(self, name: str, x: list[float], *, bias: bool = False) -> list[float]:
        filled = blocks(x)
        y = [dot(row, filled) for row in self._matrix(f"{name}.weight")]
        return [f32(a + b) for a, b in zip(y, self._vector(f"{name}.bias"), strict=True)] if bias else y

    def step(self, token: int) -> list[float]:
        """The logits after this token (X16, X17)."""
        a = self.a
        embedding = self.weights.tensor("model.embed_tokens.weight")
        x = row_of(embedding, token, 0)[:a.width]
        for layer in range(a.layers):
            name = f"model.layers.{layer}."
            h = norm(x, self._vector(f"{name}input_layernorm.weight"), self.epsilon)
            o = self._product(f"{name}self_attn.o_proj", self._attention(layer, name, h), bias=a.output_bias)
            x = [f32(p + q) for p, q in zip(x, o, strict=True)]
            h = norm(x, self._vector(f"{name}post_attention_layernorm.weight"), self.epsilon)
            gate, up = self._product(f"{name}mlp.gate_proj", h), self._product(f"{name}mlp.up_proj", h)
            down = self._product(f"{name}mlp.down_proj", [gated(g, u) for g, u in zip(gate, up, strict=True)])
            x = [f32(p + q) for p, q in zip(x, down, strict=True)]
        self.position += 1
        h = norm(x, self._vector("model.norm.weight"), self.epsilon)
        return self._product("model.embed_tokens" if a.tied else "lm_head", h)

    def _attention(self, layer: int, name: str, h: list[float]) -> list[float]:
        a, half = self.a, self.a.rotary_width // 2
        cosines, sines = (table[self.position * half:(self.position + 1) * half] for table in self.tables)
        made = {part: self._product(f"{name}self_attn.{part}_proj", h, bias=a.attention_bias) for part in "qkv"}

        def heads(part: str) -> list[list[float]]:
            return [made[part][i:i + a.head_width] for i in range(0, len(made[part]), a.head_width)]

        def ready(part: str, head: list[float]) -> list[float]:
            if a.head_norm:
                head = norm(head, self._vector(f"{name}self_attn.{part}_norm.weight"), self.epsilon)
            return turn(head, cosines, sines)

        for index, (key, value) in enumerate(zip(heads("k"), heads("v"), strict=True)):
            self.keys[layer][index].append([widen(narrow(d)) for d in ready("k", key)])
            self.values[layer][index].append([widen(narrow(d)) for d in value])
        low = 0
        if a.window is not None and layer >= a.window_from:
            low = max(0, self.position - a.window + 1)
        out: list[float] = []
        for index, query in enumerate(heads("q")):
            kv = index // (a.heads // a.kv_heads)
            out += attend(ready("q", query), self.keys[layer][kv], self.values[layer][kv], low)
        return out
