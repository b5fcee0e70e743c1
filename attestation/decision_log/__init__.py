"""The broker's decision log: every grant, denial, start and change, chained and signed (docs/spec/key-release.md R19).

`events` has what an entry may say: a closed set of types. `codec` is the one way from bytes to an entry and back,
`chain` walks a whole log, `words` has the words that entries use. The broker writes it; broker, auditor and command
line read it.
"""
