"""A local Internet Computer and a simulated TEE: real formats under their own roots. In no release image.

What it is not: there is no consensus here and no hardware. Every default policy and every default root of the
rooms refuses what it signs.
"""
