"""What things cost, measured: each module prints a table and returns its figures. Nothing here is a test."""
