"""Whether to believe it, and what follows.

`evidence` parses and proves nothing; `verify` checks signatures and chains and is the only maker of verified
types; `policy` compares verified evidence with reference values; `consensus` does the same for what a subnet
says; `tee` produces evidence. Data flows evidence -> verify -> policy.
"""
