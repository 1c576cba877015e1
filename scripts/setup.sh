#!/usr/bin/env bash
# Makes .venv in this checkout: dependencies, the package (editable) and the compiled core.
#
# Repeatable: does only what changed since the last run (stamps, written last, so an interrupted run starts its
# step again). A checkout that was moved gets a new environment. PYTHON and CC choose interpreter and compiler.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
venv="$root/.venv"

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$@" >&2; exit 1; }

# One set-up at a time per checkout, where the system has flock.
exec 9<"$root"
if command -v flock >/dev/null 2>&1; then
    flock -n 9 || { say "another set-up of this checkout is running; waiting for it"; flock 9; }
fi

digest() {  # one line for the names and contents of the files given
    if command -v sha256sum >/dev/null 2>&1; then sha256sum -- "$@" | sha256sum | cut -c1-64
    else shasum -a 256 -- "$@" | shasum -a 256 | cut -c1-64; fi
}

right_python() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    local name
    for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14 python; do
        if right_python "$name"; then command -v "$name"; return; fi
    done
    fail "Python 3.11 or later is needed and none was found (looked for \$PYTHON, python3, python3.11 ... 3.14)." \
         "Debian, Ubuntu: sudo apt-get install python3.11 python3.11-venv python3.11-dev gcc" \
         "Fedora: sudo dnf install python3.11 python3.11-devel gcc    macOS: brew install python@3.11"
}

find_compiler() {
    local name
    for name in ${CC:-} gcc cc clang; do
        if command -v "$name" >/dev/null 2>&1; then printf '%s' "$name"; return; fi
    done
    fail "A C compiler is needed to build the matching core and none was found (looked for \$CC, gcc, cc, clang)." \
         "Debian, Ubuntu: sudo apt-get install gcc python3-dev    Fedora: sudo dnf install gcc python3-devel" \
         "macOS: xcode-select --install"
}

usable_venv() {  # there, of a right Python, with pip, and made at this very place
    [ -x "$venv/bin/python" ] && right_python "$venv/bin/python" \
        && "$venv/bin/python" -c 'import pip' >/dev/null 2>&1 \
        && made_here
}

made_here() {  # scripts of an environment name its place, directly or (long paths, spaces) through sh
    case $(head -n 2 "$venv/bin/pip" 2>/dev/null) in
        "#!$venv/bin/"* | *"'exec' $venv/bin/"* | *"'exec' \"$venv/bin/"*) return 0 ;;
    esac
    return 1
}

wanted_packages=$(digest pyproject.toml setup.py)
wanted_native=$(digest setup.py native/*.pyx native/*.pxi native/*.h gridtokenx/_native/*.pxd)
packages_stamp="$venv/.gridtokenx-packages"
native_stamp="$venv/.gridtokenx-native"
same() { [ "$(cat "$1" 2>/dev/null || true)" = "$2" ]; }
built() {
    local source
    for source in native/*.pyx; do
        compgen -G "gridtokenx/_native/$(basename "$source" .pyx).*.so" >/dev/null || return 1
    done
}

if usable_venv && same "$packages_stamp" "$wanted_packages" && same "$native_stamp" "$wanted_native" && built; then
    exit 0
fi

compiler=$(find_compiler) || exit 1
export CC=$compiler
if ! usable_venv; then
    python=$(find_python) || exit 1
    say "making .venv with $("$python" --version) ($python)"
    rm -rf -- "$venv"
    "$python" -m venv "$venv" || {
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        rm -rf -- "$venv"
        fail "This Python cannot make virtual environments." \
             "Debian, Ubuntu: sudo apt-get install python$version-venv"
    }
fi
python="$venv/bin/python"
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
if [ ! -f "$headers/Python.h" ]; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    fail "The C headers of Python $version are missing ($headers/Python.h)." \
         "Debian, Ubuntu: sudo apt-get install python$version-dev    Fedora: sudo dnf install python$version-devel"
fi

if ! same "$packages_stamp" "$wanted_packages"; then
    say "installing dependencies and the package (a few minutes the first time)"
    rm -f -- "$packages_stamp" "$native_stamp" native/*.c
    log="$venv/install.log"
    { "$python" -m pip install --disable-pip-version-check "setuptools>=68" "Cython>=3.1" wheel \
        && "$python" -m pip install --disable-pip-version-check --no-build-isolation --editable '.[dev]'
    } >"$log" 2>&1 || {
        tail -n 40 "$log" >&2
        fail "installing failed; the whole output is in .venv/install.log"
    }
    printf '%s\n' "$wanted_packages" >"$packages_stamp"
    # An editable install builds the extensions in place, all of them, since their C files were removed above.
    if built; then printf '%s\n' "$wanted_native" >"$native_stamp"; fi
fi

if ! same "$native_stamp" "$wanted_native" || ! built; then
    say "building the compiled core with $compiler"
    rm -f -- "$native_stamp" native/*.c
    log="$venv/build.log"
    "$python" setup.py --quiet build_ext --inplace --force >"$log" 2>&1 || {
        tail -n 40 "$log" >&2
        fail "building the compiled core failed; the whole output is in .venv/build.log"
    }
    printf '%s\n' "$wanted_native" >"$native_stamp"
fi
say "ready: $("$python" --version), $("$CC" --version 2>/dev/null | head -n 1)"
