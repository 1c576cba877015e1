#!/usr/bin/env bash
# Installs what the tests of the explorer need and this machine lacks: Chromium, from Debian's or Ubuntu's packages.
# Where that cannot be done it says so, and those tests are skipped.
set -uo pipefail

for name in "${GRIDTOKENX_BROWSER:-}" chromium chromium-browser google-chrome google-chrome-stable; do
    [ -n "$name" ] && command -v "$name" >/dev/null 2>&1 && exit 0
done
without() { printf 'browser: %s; tests of the explorer in a browser are skipped\n' "$1"; exit 0; }
command -v apt-get >/dev/null 2>&1 || without "no Chromium, and no apt-get to install it with"
[ "$(id -u)" = 0 ] || without "no Chromium; to have it: sudo apt-get install chromium"
printf 'browser: installing Chromium\n'
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
{ timeout 120 apt-get update && timeout 480 apt-get install -y --no-install-recommends chromium; } >"$log" 2>&1 || {
    tail -n 5 "$log"
    without "Chromium could not be installed"
}
