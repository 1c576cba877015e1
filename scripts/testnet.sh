#!/usr/bin/env bash
# Builds everything and runs the testnet: five authorities and 200 households on this machine.
# `scripts/testnet.sh --help` lists the options; `--for 60 --check` is the test that it works.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ "${*#*--json}" != "$*" ]; then scripts/setup.sh >&2; else scripts/setup.sh; fi
exec .venv/bin/python -m testnet "$@"
