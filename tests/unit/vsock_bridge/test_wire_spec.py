"""docs/spec/wire.md says what the code does: its example, its numbers, its codes, its rules.

`python -m tests.unit.vsock_bridge.test_wire_spec` prints the parts that are made by code.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.unit.vsock_bridge.pair import CELL_IDENTITY, HOST_IDENTITY
from vsock_bridge.cell import CellStreams
from vsock_bridge.codec import BODY_BYTES_MAX, HEADER_BYTES, Decoder
from vsock_bridge.connection import Arrived, Connection
from vsock_bridge.errors import Code
from vsock_bridge.limits import FRAME_BYTES_MAX, Limits
from vsock_bridge.messages import Kind, Mark, Message
from vsock_bridge.ports import PORT_LIMITS, Port
from vsock_bridge.streams import Stream

ROOT = Path(__file__).parents[3]
SPEC = ROOT / "docs" / "spec" / "wire.md"


def conversation() -> list[tuple[str, bytes]]:
    """A whole session between the two real ends: who said what, a frame each."""
    limits = Limits()
    table = CellStreams(limits)
    host = Connection.for_host(HOST_IDENTITY, limits)
    cell = Connection.for_cell(CELL_IDENTITY, limits, table.find)
    stream = Stream.of_host(b"n" * 16, limits)
    said: list[tuple[str, bytes]] = []

    def pass_on() -> None:
        up = host.gather()
        said.extend(("host", frame) for frame in frames(up))
        for event in cell.receive(up):
            if isinstance(event, Arrived):
                table.of(event.stream).arrived(event.frame)
        down = cell.gather()
        said.extend(("cell", frame) for frame in frames(down))
        host.receive(down)

    pass_on()
    host.attach(stream)
    pass_on()
    stream.sending.push(Mark.END, b"hello")
    pass_on()
    held = table.of(stream)
    held.take()
    held.answer(Mark.MORE, b"hi")
    held.answer(Mark.END, b"")
    pass_on()
    host.leave()
    pass_on()
    return said


def frames(stream: bytes) -> list[bytes]:
    out = []
    while stream:
        end = HEADER_BYTES + int.from_bytes(stream[1:4], "big")
        out.append(stream[:end])
        stream = stream[end:]
    return out


def example() -> str:
    decoders = {"host": Decoder(), "cell": Decoder()}
    lines = []
    for who, frame in conversation():
        [message] = decoders[who].feed(frame)
        lines.append(f"{who}  {worded(message)}")
        shown = frame.hex(" ")
        lines += [f"      {shown[at : at + 72].strip()}" for at in range(0, len(shown), 72)]
    return "\n".join(lines)


def worded(message: Message) -> str:
    words = repr(message).replace("stream=", "").replace("<Mark.", "").replace(": 0>", "").replace(": 1>", "")
    payload = getattr(message, "payload", None)
    return words if payload is None else f"{words[:-1]}, payload={payload!r})"


def memory() -> str:
    stream, side = PORT_LIMITS[Port.STREAM], PORT_LIMITS[Port.OBSERVE]
    of = "{0.connections_max} connections + {0.streams_max} streams".format
    rows = [
        ("a connection", "receive buffer + replies + transport's buffer", stream.connection_bytes_max),
        ("a stream of `stream`", "window + retained + the item being answered", stream.stream_bytes_max),
        ("a stream of the others", "the same", side.stream_bytes_max),
        ("the port `stream`", of(stream), stream.port_bytes_max),
        ("`release`, `observe`, each", of(side), side.port_bytes_max),
        ("the window", "three ports", sum(PORT_LIMITS[port].port_bytes_max for port in Port)),
    ]
    return "\n".join(f"| {what} | {of} | {size} | {size / 2**20:.1f} |" for what, of, size in rows)


def codes() -> str:
    return "\n".join(f"| {code.value} | {code.name} |" for code in Code)


def kinds() -> str:
    return "\n".join(f"| {kind.value} | {kind.name} | {BODY_BYTES_MAX[kind]} |" for kind in Kind)


def test_the_example_is_what_the_code_says() -> None:
    assert example() in SPEC.read_text()


def test_the_memory_of_w20_is_computed() -> None:
    text = SPEC.read_text()
    for row in memory().splitlines():
        assert row in text


def test_every_code_and_every_kind_is_in_its_table() -> None:
    text = SPEC.read_text()
    for row in (*codes().splitlines(), *kinds().splitlines()):
        assert row.removesuffix(" |") in text
    assert len(re.findall(r"^\| \d+ \| [A-Z_]+ \|", text, re.MULTILINE)) == len(Code) + len(Kind)


def test_every_rule_the_code_cites_is_there_and_once() -> None:
    rules = re.findall(r"^\*\*(W\d+)\*\*", SPEC.read_text(), re.MULTILINE)
    assert rules == [f"W{number}" for number in range(1, len(rules) + 1)]
    rooms = [ROOT / "vsock_bridge", ROOT / "tests" / "unit" / "vsock_bridge"]
    cited = {rule for room in rooms for path in room.glob("*.py") for rule in re.findall(r"\bW\d+\b", path.read_text())}
    assert cited - {"W1"} <= set(rules)


def test_the_ports_are_those_of_the_page() -> None:
    text = SPEC.read_text()
    for port in Port:
        assert f"| {port.value} | `{port.name.lower()}` |" in text


def test_a_port_is_bounded_by_its_parts() -> None:
    limits = Limits()
    assert limits.connection_bytes_max > FRAME_BYTES_MAX + limits.gather_bytes_max
    assert limits.stream_bytes_max == limits.window_bytes + limits.retained_bytes_max + limits.item_bytes_max


if __name__ == "__main__":
    print(example(), memory(), codes(), kinds(), sep="\n\n")
