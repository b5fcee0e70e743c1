"""A real virtual machine beside the tests: AF_VSOCK in a guest, the host's library outside it.

`make vm-tools` fetches and unpacks what is needed (`tools`); `machine` boots it; `guest/` is what runs
inside. No TEE, no KVM: the guest's processor is emulated, so nothing here says anything about speed on hardware.
"""
