"""Starting an image: under QEMU on any machine, with the firmware and the checks of a confidential one.

    plan                what is to run, and the command lines that follow: pure
    text_disk           the files as they are handed over: their digests, and what a chip would report of them
    ending              what a machine can say of its end: a closed grammar, from a guest nobody believes
    running_machine     the processes, the sockets, the clock
    progress            waiting for as long as a machine gets on
    vm_tools            QEMU, firmware and a guest's system of locked packages: what boots without an installation
    bare_machine        a guest with one program and no image (`guest/`), for the bridge alone

The rules are docs/spec/boot.md. Nothing here is in an image.
"""
