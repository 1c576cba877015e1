#!/bin/sh
# Breaks one rule at a time in a scratch copy and prints which test notices: a table for the order book, for the
# conservation checker, for the trie's memory of pages, and for the checks against energy from nowhere. Usage:
# scripts/orderbook_mutations.sh [options of tests/mutations.py, as --only WORD; with --resume DIR --minutes M in pieces:
# 2 is returned while some are to go]
set -eu
cd "$(dirname "$0")/.."
status=0
for extension in orderbook conservation trie state energy; do
    this=0
    "${PYTHON:-python}" tests/mutations.py "$extension" "$@" || this=$?
    [ "$this" -le "$status" ] || status=$this
done
exit $status
