"""What every room stands on: canonical bytes, refusals with a name, values that cannot be printed, logs.

Start at `cbor` (the one encoding that is hashed or signed), `digests` (domain-separated SHA-256),
`merkle` (many leaves under one digest), `refusal` (the shape of every error) and `secrecy` (the types a log
can never render).
Imports nothing of ours.
"""
