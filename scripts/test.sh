#!/usr/bin/env bash
# Everything that must hold before a change goes in: style, types, tests. `scripts/test.sh [pytest arguments]`
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
scripts/browser.sh
scripts/javascript.sh

bin=.venv/bin
failed=()
folders=(gridtokenx tests testnet examples deploy setup.py)
[ -n "$(find benchmarks -name '*.py' -print -quit 2>/dev/null)" ] && folders+=(benchmarks)

step() {  # name, command: runs it, remembers a failure, goes on
    local name=$1
    shift
    printf '\n== %s\n' "$name"
    "$@" || failed+=("$name")
}

step "style (ruff)" "$bin/ruff" check --quiet "${folders[@]}"
step "types (mypy --strict)" "$bin/mypy"
step "tests (pytest)" "$bin/pytest" "$@"

if [ ${#failed[@]} -gt 0 ]; then
    printf '\nFAILED: %s\n' "$(IFS=,; echo "${failed[*]}" | sed 's/,/, /g')"
    exit 1
fi
printf '\nall green: style, types, tests\n'
