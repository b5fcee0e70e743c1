"""The `anchorhold` command. A verb per job, each in `verbs/`, over the library of the rooms.

Nothing imports this package, and no release image contains it.
"""
