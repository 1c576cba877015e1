#!/usr/bin/env bash
# Forks a running testnet, lets a day pass on it with twice the panels, and opens what comes of it in a headless browser:
# the reports, the picture, and with `--jupyter PYTHON` the notebook. Nothing may be missing, no word in the console.
# `scripts/studies.sh [--households 30] [--port-base 9821] [--jupyter PYTHON] [--out FOLDER]`
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
scripts/browser.sh
exec .venv/bin/python tests/study_pictures.py "$@"
