#!/usr/bin/env bash
# Consensus under faults, from seeds: `scripts/simulate.sh --seeds 1000`; `--bugs` for the table of seeded bugs.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh >&2
exec .venv/bin/python -m gridtokenx.sim "$@"
