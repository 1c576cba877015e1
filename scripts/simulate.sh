#!/usr/bin/env bash
# Whole nodes under faults, from seeds: `scripts/simulate.sh --seeds 1000 --jobs 2`; `--core` for consensus alone,
# `--bugs` for the table of seeded bugs. docs/simulation.md says what is simulated.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh >&2
exec .venv/bin/python -m gridtokenx.sim "$@"
