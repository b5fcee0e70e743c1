"""Token ids in, token ids out. Knows no wire, no order and no attestation."""
