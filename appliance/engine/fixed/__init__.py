"""The engine in which every reduction has one specified order (docs/spec/engine.md, "The arithmetic").

`architecture` says what a model is made of; `library` loads the kernels; `engine` speaks the protocol. `kernels_build`
compiles the kernels, before any of the others can run.
"""
