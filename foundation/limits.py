"""The bounds that gateway, cell, window and host must agree on, the unit in the name.

A name in capitals here is the name in lower camel case in `gateway/src/Limits.mo`: `PAYLOAD_BYTES_MAX` is
`payloadBytesMax`. `vsock_bridge` and the gateway import nothing of ours, so they state the numbers again;
`tests/unit/test_limits.py` compares them and checks what must hold between them: what a cell may say, the window
carries and the gateway takes.
"""

from __future__ import annotations

from typing import Final

MILLION: Final = 1_000_000

# One request.
PAYLOAD_BYTES_MAX: Final = 131_072
MODEL_BYTES_MAX: Final = 128  # printable ASCII
MESSAGES_MAX: Final = 128
TOOLS_MAX: Final = 64
PROPERTIES_MAX: Final = 64  # of one tool; also its required names, and the values of one enum
TOOL_CALLS_MAX: Final = 64  # of one message
ARGUMENTS_MAX: Final = 64  # of one tool call
STOPS_MAX: Final = 16
STOP_BYTES_MAX: Final = 256
TOKENS_MAX: Final = 32_768
TEMPERATURE_MICRO_MAX: Final = 2 * MILLION
TOP_K_MAX: Final = 1 << 20
TOP_P_MICRO_MAX: Final = MILLION
MIN_P_MICRO_MAX: Final = MILLION
REPETITION_PENALTY_MICRO_MIN: Final = MILLION // 10
REPETITION_PENALTY_MICRO_MAX: Final = 10 * MILLION
PENALTY_MICRO_MAX: Final = 2 * MILLION  # either way
LOGIT_BIASES_MAX: Final = 256
LOGIT_BIAS_MICRO_MAX: Final = 100 * MILLION  # either way
BIASED_TOKEN_MAX: Final = (1 << 20) - 1  # whatever the vocabulary

# One block.
BLOCK_REQUESTS_MAX: Final = 256
BLOCK_PAYLOAD_BYTES_MAX: Final = 1 << 20
SLICE_BYTES_MAX: Final = 3 << 19  # of a body, with what stands around the payloads
HEADERS_MAX: Final = 4096

# One answer. Words are what a client reads: text, or the assistant's message with its tool calls, encoded. The answer
# is what the cell says: the words of a plain request, the frames of a sealed one.
WORDS_BYTES_MAX: Final = 8 * TOKENS_MAX  # a frame holds eight bytes for each of its tokens (answer.md A15)
ANSWER_BYTES_MAX: Final = 655_360
RECEIPT_BYTES_MAX: Final = 16_384
SIGNATURE_BYTES_MAX: Final = 16_384
SIGNATURES_MAX: Final = 16  # kept beside one answer
ARGUMENT_BYTES_MAX: Final = 1 << 20  # of one call to the gateway, encoded

# The window.
ITEM_BYTES_MAX: Final = 2 << 20  # of one ask on `stream`
SAY_BYTES_MAX: Final = 64 << 10  # one say is one frame (window.md N1)
PIECE_BYTES_MAX: Final = 32 << 10  # of the words in one piece
DECLINED_CHARACTERS_MAX: Final = 1_000  # of the text of a declined
