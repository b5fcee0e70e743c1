"""How bytes travel between a host and the cell."""
