"""Builds the Cython extensions of `native/` into `gridtokenx._native`."""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

HERE = Path(__file__).parent
FLAGS = ["-O3", "-fwrapv", "-fno-strict-aliasing", "-std=c11", "-Wno-unused-function"]
# Joining neighbouring fields into vectors costs more than it saves where every order writes a few of them.
MORE_FLAGS = {"orderbook": ["-fno-tree-slp-vectorize"]}

extensions = [
    Extension(f"gridtokenx._native.{source.stem}", [f"native/{source.name}"],
              extra_compile_args=FLAGS + MORE_FLAGS.get(source.stem, []))
    for source in sorted((HERE / "native").glob("*.pyx"))
]

setup(ext_modules=cythonize(extensions, language_level=3, annotate=False))
