"""What should be running, and who may say so: launch digests, release manifests, model packs."""
