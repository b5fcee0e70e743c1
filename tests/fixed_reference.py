"""docs/spec/engine.md, "The arithmetic", as plainly as it can be said: one operation after the other, in Python.

Slow on purpose and written apart from the kernels: floats are Python's doubles rounded to float32 after each
operation (which rounds the same as one operation in float32 does), and a fused multiply-add is rounded to odd first.
"""

from __future__ import annotations

import math
import struct

from appliance.engine.fixed.architecture import BLOCK, LINE, Architecture, Format, Tensor, Weights

LANES = 32
SPAN = 128
_F, _I = struct.Struct("<f"), struct.Struct("<I")
_D = struct.Struct("<d")


def f32(x: float) -> float:
    try:
        return _F.unpack(_F.pack(x))[0]
    except OverflowError:
        return math.copysign(math.inf, x)


def fma(a: float, b: float, c: float) -> float:
    product = a * b  # exact: 24 bits by 24 bits
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


def factor(x: float) -> float:
    """X6: what a product over bf16 takes of a float32."""
    rounded = widen(narrow(x))
    if math.isnan(rounded) or abs(rounded) >= 2.0**60:
        return math.nan
    return rounded if abs(rounded) >= 2.0**-50 else 0.0


def tree(lanes: list[float]) -> float:
    """X3, of 32 lanes or 16."""
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [f32(a + b) for a, b in zip(lanes[:half], lanes[half:], strict=True)]
    return lanes[0]


def filled(numbers: list[float], to: int) -> list[float]:
    return numbers + [0.0] * (-len(numbers) % to)


def dot(w: list[float], x: list[float]) -> float:
    """X4, of factors."""
    w, x, lanes = filled(w, LINE), filled(x, LINE), [0.0] * LANES
    for k in range(0, len(w), 2):
        lane = k // 2 % LANES
        lanes[lane] = fma(w[k + 1], x[k + 1], lanes[lane])
        lanes[lane] = fma(w[k], x[k], lanes[lane])
    return tree(lanes)


def square(x: list[float]) -> float:
    """X10."""
    lanes = [0.0] * LANES
    for k, a in enumerate(filled(x, LANES)):
        lanes[k % LANES] = fma(a, a, lanes[k % LANES])
    return tree(lanes)


def quantized(x: list[float]) -> list[tuple[list[int], float]]:
    """X8: blocks of codes, and the scale of each."""
    found = []
    for at in range(0, len(x), BLOCK):
        block = filled(x[at : at + BLOCK], BLOCK)
        top = max(abs(a) if not math.isnan(a) else math.inf for a in block)
        if top >= 2.0**60:
            found.append(([0] * BLOCK, math.nan))
        elif top < 2.0**-50:
            found.append(([0] * BLOCK, 0.0))
        else:
            inverse = f32(127.0 / top)
            found.append(([round(f32(a * inverse)) for a in block], f32(top / 127.0)))
    return found


def dot_of_codes(w: list[tuple[list[int], float]], x: list[tuple[list[int], float]]) -> float:
    """X7."""
    lanes = [0.0] * 16
    for b, ((codes, scale), (others, other)) in enumerate(zip(w, x, strict=True)):
        total = sum(p * q for p, q in zip(codes, others, strict=True))
        lanes[b % 16] = fma(float(total), f32(scale * other), lanes[b % 16])
    return tree(lanes)


def row_of(tensor: Tensor, n: int) -> list[float]:
    """A row in bf16."""
    columns = tensor.shape[-1]
    raw = bytes(tensor.data.cast("B")[2 * n * columns : 2 * (n + 1) * columns])
    return [widen(b) for (b,) in struct.iter_unpack("<H", raw)]


def codes_of(tensor: Tensor, n: int, group: int) -> list[tuple[list[int], float]]:
    """X7: row n as blocks of codes, each with its scale."""
    columns = tensor.shape[-1]
    blocks, groups = -(-columns // BLOCK), -(-columns // group)
    assert tensor.scales is not None
    raw = bytes(tensor.scales[2 * n * groups : 2 * (n + 1) * groups])
    scales = [widen(s) for (s,) in struct.iter_unpack("<H", raw)]
    stride = blocks * (BLOCK if tensor.format is Format.INT8 else BLOCK // 2)
    row = bytes(tensor.data.cast("B")[n * stride : (n + 1) * stride])
    return [
        ([code_at(row, tensor.format, blocks, BLOCK * b + i) for i in range(BLOCK)], scales[BLOCK * b // group])
        for b in range(blocks)
    ]


def code_at(row: bytes, form: Format, blocks: int, k: int) -> int:
    """X7: a piece is slices of words, a word for each of its blocks."""
    piece, rest = divmod(k // BLOCK, 16)
    words = min(16, blocks - 16 * piece)
    part, byte = k % BLOCK // 4, k % 4
    if form is Format.INT8:
        return row[piece * 512 + (part * words + rest) * 4 + byte] - 128
    both = row[piece * 256 + (part % 4 * words + rest) * 4 + byte]
    return (both >> 4 if part >= 4 else both & 15) - 8


def product(tensor: Tensor, x: list[float], group: int = 0) -> list[float]:
    if tensor.format is Format.BF16:
        taken = [factor(a) for a in x]
        return [dot([factor(a) for a in row_of(tensor, n)], taken) for n in range(tensor.shape[0])]
    blocks = quantized(x)
    return [dot_of_codes(codes_of(tensor, n, group), blocks) for n in range(tensor.shape[0])]


def exponential(x: float) -> float:
    """X9."""
    x = min(max(-87.0, x), 88.0)  # of NaN: -87, for NaN is never greater
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
    mean = f32(square(x) / float(len(x)))
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
    taken = [factor(a) for a in query]
    scores = {i: f32(dot(keys[i], taken) * scale) for i in range(low, top + 1)}
    most = -math.inf
    for score in scores.values():
        most = max(most, score)  # NaN is never greater
    weights = {i: exponential(f32(score - most)) for i, score in scores.items()}
    lanes = [0.0] * LANES
    for i in range(low // LANES * LANES, (top // LANES + 1) * LANES):
        lanes[i % LANES] = f32(lanes[i % LANES] + weights.get(i, 0.0))
    inverse = f32(1.0 / tree(lanes))
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
        self.codes: dict[str, list[list[tuple[list[int], float]]]] = {}

    def _vector(self, name: str) -> list[float]:
        return row_of(self.weights.tensor(name), 0)

    def _product(self, name: str, x: list[float], *, bias: bool = False) -> list[float]:
        tensor = self.weights.tensor(f"{name}.weight")
        rows = range(tensor.shape[0])
        if tensor.format is Format.BF16:
            if name not in self.rows:
                self.rows[name] = [[factor(a) for a in row_of(tensor, n)] for n in rows]
            taken = [factor(a) for a in x]
            y = [dot(row, taken) for row in self.rows[name]]
        else:
            if name not in self.codes:
                self.codes[name] = [codes_of(tensor, n, self.group) for n in rows]
            blocks = quantized(x)
            y = [dot_of_codes(row, blocks) for row in self.codes[name]]
        return [f32(a + b) for a, b in zip(y, self._vector(f"{name}.bias"), strict=True)] if bias else y

    def step(self, token: int) -> list[float]:
        """The logits after this token (X16, X17)."""
        a = self.a
        embedding = self.weights.tensor("model.embed_tokens.weight")
        x = row_of(embedding, token)
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
        cosines, sines = (table[self.position * half : (self.position + 1) * half] for table in self.tables)
        made = {part: self._product(f"{name}self_attn.{part}_proj", h, bias=a.attention_bias) for part in "qkv"}

        def heads(part: str) -> list[list[float]]:
            return [made[part][i : i + a.head_width] for i in range(0, len(made[part]), a.head_width)]

        def ready(part: str, head: list[float]) -> list[float]:
            if a.head_norm:
                head = norm(head, self._vector(f"{name}self_attn.{part}_norm.weight"), self.epsilon)
            return turn(head, cosines, sines)

        for index, (key, value) in enumerate(zip(heads("k"), heads("v"), strict=True)):
            self.keys[layer][index].append([factor(d) for d in ready("k", key)])
            self.values[layer][index].append([widen(narrow(d)) for d in value])
        low = 0
        if a.window is not None and layer >= a.window_from:
            low = max(0, self.position - a.window + 1)
        out: list[float] = []
        for index, query in enumerate(heads("q")):
            kv = index // (a.heads // a.kv_heads)
            out += attend(ready("q", query), self.keys[layer][kv], self.values[layer][kv], low)
        return out
