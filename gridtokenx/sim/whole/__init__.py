"""Whole nodes in one process: the code that runs in production over a simulated network, clock and disk."""
