"""The guest kernel, built from Debian's locked sources by a locked compiler. docs/spec/image.md I25 to I30.

    inputs          what it is built of: locked packages, our configuration, our two patches; the digest of all of it
    configuration   our options, each with its reason, and whether a kernel has them
    toolchain_tree  the locked packages as a tree that a build sees instead of this machine
    kernel_build    one build in such a tree
    kernel_cache    built once for the same inputs, and kept outside the clone
    carried_configuration   the configuration that a finished kernel carries

`patches/` is under the kernel's licence, GPL-2.0-only: it changes the kernel's files and is of no use elsewhere.
"""
