"""What things cost, measured beside what they cannot be cheaper than. Nothing imports it; no test times."""
