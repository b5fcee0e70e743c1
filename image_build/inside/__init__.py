"""What runs inside the image before the cell does: `process_one`, the first program of the sealed root.

Files of the image, not of the build: nothing here is imported by it, and they import Python's own modules alone.
"""
