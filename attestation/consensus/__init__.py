"""What a subnet's certificate proves: the certificate itself, and the blocks and slices ordered under it."""
