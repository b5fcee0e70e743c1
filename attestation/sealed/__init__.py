"""Sealed requests and their answers: what a client, a cell and an auditor must compute alike (docs/spec/answer.md).

    suites    the two ways to seal to a service key
    ring      the service keys of a stretch of blocks; what a client is shown of one
    request   a request sealed by a client, opened by a cell
    buckets   the sizes that may be seen
    frames    an answer in frames of one size, made by a cell, checked by a client

Pure: randomness is an argument or the sealing library's own, and there is no clock.
"""
