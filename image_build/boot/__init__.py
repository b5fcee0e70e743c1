"""Starting an image: under QEMU on any machine, with the firmware and the checks of a confidential one.

    plan        what is to run, and the command lines that follow: pure
    handed      the files as they are handed over: their digests, and what a chip would report of them
    ending      what a machine can say of its end: a closed grammar, from a guest nobody believes
    running     the processes, the sockets, the clock

The rules are docs/spec/boot.md. Nothing here is in an image.
"""
