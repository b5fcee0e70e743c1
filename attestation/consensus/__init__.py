"""What a subnet's certificate proves: the certificate itself, and the blocks and slices ordered under it.

Start at `certificate` (parse, verify, look into). Under it: `hashtree`, `bls`, `delegation`, `ranges`,
`certified_time`; `request_id` reads an update call's certified reply; `principal` and `roots` hold names and
the root key; `refusals` is everything this room says no with.
"""
