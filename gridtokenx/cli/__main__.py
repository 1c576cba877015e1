"""`python -m gridtokenx.cli`: the same as the `gridtokenx` command."""

from gridtokenx.cli import main

main()
