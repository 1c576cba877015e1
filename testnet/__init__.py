"""The local testnet: five authorities and a trading program for 200 households, as processes on one machine.

`python -m testnet` (by way of `scripts/testnet.sh`) starts, watches and checks it. The trading program uses
nothing but the public interface, `gridtokenx.client`.
"""
