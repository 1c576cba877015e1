#!/usr/bin/env bash
# Installs what examples/javascript needs (tweetnacl), where npm is there; without it the tests of the example are skipped.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../examples/javascript"
[ -d node_modules/tweetnacl ] && exit 0
command -v npm >/dev/null 2>&1 || { printf 'javascript: no npm; the test of the JavaScript example is skipped\n'; exit 0; }
timeout 120 npm install --no-package-lock --no-audit --no-fund --silent >/dev/null 2>&1 \
    || printf 'javascript: npm could not install tweetnacl; the test of the JavaScript example is skipped\n'
