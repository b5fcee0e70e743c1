"""Attacks on the product as it runs, and the proof that each is one: `make attack`, `make attack PROVE=1`.

    registry.py     what an attack is, and all of them by name
    weakening.py    taking one defence away, in this process and in those that it starts
    weakened.py     how a process of ours is started without a defence
    room.py         what an attack runs in: a folder, cells, a broker behind HTTPS
    running.py      one attack after the other, a line each

and one module a subject. An attack is a function that tries it on the real parts and says what happened, `held` or
`broken`. Beside it stands its defence, in words and as the patch that takes it away: run so, it has to come out broken.
"""
