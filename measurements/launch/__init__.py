"""What a machine will report of the files it is started from, computed from those files alone.

    footer        the table at a firmware's end: bytes somebody else made, parsed strictly
    sev, snp      the launch digest of SEV-SNP, for every processor type and count
    tdvf, mrtd    the initial measurement of a trust domain
    authenticode  how UEFI hashes a kernel
    rtmr          the events a boot will log, and the registers they lead to, where that can be foreseen
    measurement   what is reported in the end, as one value
    manifest      all of it in one strict document
    published     the part of it that a release manifest carries

Pure: bytes in, values out. It establishes what a machine started with these files reports, not that any machine was.
"""
