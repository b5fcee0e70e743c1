"""Attacks on the gateway canister: reports, queues, expiry, what is certified. They come with the second gateway."""
