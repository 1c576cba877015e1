#!/bin/sh
# The order book against its plain model for long: random streams until OPERATIONS (default 1 000 000) were compared.
# Usage: scripts/orderbook_long.sh [operations] [first seed]
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" tests/long_orderbook.py "${1:-1000000}" "${2:-1}"
