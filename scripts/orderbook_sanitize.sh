#!/bin/sh
# The order book's tests under the address and undefined-behaviour sanitizers, in a scratch copy of the tree.
set -eu
cd "$(dirname "$0")/.."
python="${PYTHON:-python}"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r gridtokenx native tests pyproject.toml setup.py "$scratch"
cd "$scratch"
CFLAGS="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all" \
    LDFLAGS="-fsanitize=address,undefined" "$python" setup.py build_ext --inplace --force
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
    "$python" -m pytest -q -p no:cacheprovider tests/test_orderbook_model.py tests/test_orderbook_books.py
