#!/usr/bin/env bash
# Runs a testnet, tries its explorer in a headless browser and takes the pictures of docs/images.
# `scripts/screenshots.sh [--households 60] [--port-base 9901] [--out docs/images]`
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
scripts/browser.sh
exec .venv/bin/python tests/explorer_pictures.py "$@"
