"""What runs inside a bare machine: `init` as process 1, and a window without a cell behind it."""
