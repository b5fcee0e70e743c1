"""`anchorhold devnet up`: the whole product on this machine, under the devnet's own roots, until it is stopped.

plan.py        what was asked for, and what a folder was made with
owner.py       the key owner: a sealed model, a broker's secrets, kept in the folder
canisters.py   the gateway and the governance canister on a running network
cells.py       one cell: a process, its log, its key
hosting.py     the host beside a cell: polls the gateway, feeds the cell, reports its answers
starting.py    all of it, in order; one line of JSON when everything answers
"""
