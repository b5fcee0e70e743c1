"""What runs inside the test guest: `init` as process 1, and a window without a cell behind it."""
