"""Who may say what runs, and what they have said: actions, authorities, decisions, and the history they form.

`actions` is what is decided, `charter` and `authority` who decides, `decision` the file that carries one with its
proof, `history` the state machine that accepts the next one and nothing else. Pure. docs/spec/governance.md.
"""
