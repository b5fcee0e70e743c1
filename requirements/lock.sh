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
