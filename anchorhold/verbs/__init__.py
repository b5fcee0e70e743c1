"""One module per verb, each with `add(verbs)`: adds its parser and sets `run`, (Namespace) -> exit status.

Modules are imported to build the parser, so they import what they need to *do* the job inside `run`.
"""
