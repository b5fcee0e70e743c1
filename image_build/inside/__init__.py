"""What runs inside the image before the cell does: `first` in the initrd, then `process_one` on the sealed root.

Files of the image, not of the build: nothing here is imported by it, and they import Python's own modules alone.
"""
