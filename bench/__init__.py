"""Measured, as ratios side by side in one run. `python -m bench` runs every section and prints its table."""
