"""Logits to a token, the same on every machine (docs/spec/sampling.md).

`sampler.Sampler` chooses the tokens of one answer, by `reference` (plain Python, the rules as they are written) or by
`native` (`sampling.c` in a shared library). Both choose the same token for every input.
"""
