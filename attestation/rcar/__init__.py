"""The key release handshake as both sides speak it: RCAR, the key broker protocol 0.4.0, and what ours adds inside.

`messages` is what travels, `evidence` how our evidence rides in it, `jwe` the sealing of a resource, `grant` the
context and signature of a released one. Pure: no socket, no clock; docs/spec/key-release.md R1 to R19.
"""
