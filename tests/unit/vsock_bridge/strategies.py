"""What hypothesis draws for the bridge: every message within its bounds, and byte streams cut anywhere."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st

from vsock_bridge.errors import Code
from vsock_bridge.limits import CREDIT_BYTES_MAX, SEQUENCE_MAX, TEXT_BYTES_MAX
from vsock_bridge.messages import Ack, Bye, Cancel, Credit, Data, Error, Hello, Mark, Message, Open, Ping

STREAMS = st.integers(1, 2**31 - 1)
SEQUENCES = st.integers(0, SEQUENCE_MAX)
NAMES = st.binary(min_size=16, max_size=16)
PAYLOADS = st.one_of(
    st.binary(max_size=600), st.sampled_from([0, 255, 256, 65535, 65536, 262144]).map(lambda size: b"\xa5" * size)
)
TEXTS = st.text(max_size=TEXT_BYTES_MAX // 4)

MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, st.integers(0, 255), st.integers(0, 255), NAMES),
    st.builds(Open, STREAMS, NAMES, SEQUENCES, st.integers(0, CREDIT_BYTES_MAX)),
    st.builds(Data, STREAMS, SEQUENCES, SEQUENCES, st.sampled_from(Mark), PAYLOADS),
    st.builds(Credit, STREAMS, st.integers(1, CREDIT_BYTES_MAX)),
    st.builds(Ack, STREAMS, SEQUENCES),
    st.builds(Cancel, STREAMS, SEQUENCES),
    st.builds(Ping, st.integers(0, 2**32 - 1), st.booleans()),
    st.builds(Error, st.integers(0, 2**31 - 1), st.sampled_from(Code), TEXTS),
    st.just(Bye()),
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at the given places, whatever they are."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:stop] for start, stop in pairwise(places)]
