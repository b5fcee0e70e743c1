"""The model pack: one sealed, signed file that names the model it holds (docs/spec/pack.md).

Start at `sealing.seal_pack`, `verifying.verify_pack` (no key needed) and `opening.open_pack`. What may be in a pack
is `files` and `safetensors`; what the file looks like, `header` and `manifest`; which model it is, `identity`.
"""
