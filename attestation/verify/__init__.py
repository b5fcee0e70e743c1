"""Is it genuine? Signatures, chains and bindings; never a policy, a clock or the network."""
