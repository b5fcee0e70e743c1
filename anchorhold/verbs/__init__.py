"""One module per verb. Each has `add(verbs)`, which adds its parser and sets `run`: (Namespace) -> exit status.

Modules are imported to build the parser, so they import what they need to *do* the job inside `run`.
"""
