"""What a release is: the manifest that is published, proposed and adopted, and what changes from one to the next.

`manifest` reads and writes it; `comparing` says in words what a new one asks a voter to trust. docs/spec/governance.md.
"""
