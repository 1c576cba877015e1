#!/usr/bin/env bash
# The real testnet under load and faults: `scripts/chaos.sh --faults 100 --seed 1`; ends with what it checked.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh >&2
exec .venv/bin/python -m testnet.chaos "$@"
