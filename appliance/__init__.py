"""The cell: boot, order, engine, receipts, server."""
