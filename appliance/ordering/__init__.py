"""Prompts in the order a subnet gave them: slices in, ordered requests out.

Start at `sequencer` (the one state, and the rules in one place); `refusals` says how it says no, and which no
is an alarm. What a slice is and when it is accepted is `attestation.consensus.slices`.
"""
