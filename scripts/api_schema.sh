#!/usr/bin/env bash
# Tries the HTTP interface of a running node or gateway with thousands of made-up requests, all checks on:
#     gridtokenx gateway DATA_DIRECTORY --http 127.0.0.1:9480 --requests 100000
#     scripts/api_schema.sh [http://127.0.0.1:9480] [schemathesis arguments]
# The tests do the same in short form (tests/test_api_schema.py).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
url=${1:-http://127.0.0.1:9480}
shift || true

exec .venv/bin/schemathesis --config-file tests/schemathesis.toml run "$url/api/v1/openapi.json" \
    --checks all --phases coverage,fuzzing,stateful -n 200 --request-timeout 60 --continue-on-failure \
    --generation-deterministic "$@"
