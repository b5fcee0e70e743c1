"""Receipts: what a cell did with one ordered request, signed; and the log that keeps them.

`body` is what every cell says alike, `sealing` how one cell signs it, `outcome` what it hides of a sealed answer,
`price` what it cost, `checkpoint` how a cell vouches for all of its receipts at once, `fork` what convicts one that
vouched for two histories. Pure: no key is made here, no file is read. docs/spec/receipt.md has the rules.
"""
