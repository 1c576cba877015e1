"""The compiled core, built from the Cython sources in `native/`."""
