"""Machines that are booted to be tested and attacked: a sealed image, and a bare one around the bridge.

`make vm-tools` fetches and unpacks what is needed. No TEE, no KVM: the guest's processor is emulated, so nothing here
says anything about speed on hardware.
"""
