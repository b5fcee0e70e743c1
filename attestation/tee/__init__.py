"""Producing evidence, on the machine that is attested."""
