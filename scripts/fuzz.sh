#!/usr/bin/env bash
# Bytes that no honest peer sends, into all that takes bytes: `scripts/fuzz.sh --inputs 1000000 --seed 1`.
set -euo pipefail

inputs=1000000
seed=1
while [ $# -gt 0 ]; do
    case "$1" in
        --inputs) inputs="$2"; shift 2 ;;
        --seed) seed="$2"; shift 2 ;;
        *) echo "usage: scripts/fuzz.sh [--inputs N] [--seed S]" >&2; exit 2 ;;
    esac
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh >&2
exec .venv/bin/python -X faulthandler tests/fuzz_network.py "$inputs" "$seed"
