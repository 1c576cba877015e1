#!/bin/sh
# Breaks one rule at a time in a scratch copy and prints which test notices: a table for the order book, then for the
# conservation checker. Usage: scripts/orderbook_mutations.sh [word of the rules' names]
set -eu
cd "$(dirname "$0")/.."
status=0
for extension in orderbook conservation; do
    "${PYTHON:-python}" tests/mutations.py "$extension" --only "${1:-}" || status=1
done
exit $status
