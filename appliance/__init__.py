"""What the cell does: boot, order, engine, receipts, server."""
