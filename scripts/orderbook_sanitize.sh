#!/bin/sh
# The tests of the order book and the conservation checker under the address and undefined-behaviour sanitizers, in a
# scratch copy of the tree. Usage: scripts/orderbook_sanitize.sh [seconds of fuzzing]
set -eu
cd "$(dirname "$0")/.."
python="${PYTHON:-python}"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r gridtokenx tests docs pyproject.toml setup.py "$scratch"
mkdir "$scratch/native"
cp native/orderbook.pyx native/book_*.pxi native/machine.h native/conservation.pyx "$scratch/native"
cd "$scratch"
# What is forced inline for speed would take the sanitizers' instrumentation many minutes to compile.
sed -i 's/inline __attribute__((always_inline))/inline/' native/book_types.pxi
CFLAGS="-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all" \
    LDFLAGS="-fsanitize=address,undefined" "$python" setup.py -q build_ext --inplace --force
# Memory that Python and its packages keep is no leak; what was freed is held back only for a while, or it fills the memory.
export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
export ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=32 UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH="$scratch"
"$python" -m pytest -q -p no:cacheprovider -o timeout=1200 tests/test_conservation_native.py tests/test_orderbook_*.py
"$python" tests/fuzz_orderbook.py "${1:-60}" 1
