#!/bin/sh
# Arbitrary bytes into the order book, the conservation checker and flow files, for SECONDS (default 600).
# Usage: scripts/orderbook_fuzz.sh [seconds] [first seed]
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" -X faulthandler tests/fuzz_orderbook.py "${1:-600}" "${2:-1}"
