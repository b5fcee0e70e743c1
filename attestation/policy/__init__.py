"""Is it acceptable? Pure comparison of verified evidence with reference values: every claim is listed."""
