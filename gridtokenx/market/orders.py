"""Sides and times in force of orders: the numbers of the wire, which are the engine's too."""

from __future__ import annotations

from gridtokenx._native.orderbook import Force, Side

__all__ = ["BUY", "SELL", "Force", "Side"]

BUY = Side.BUY
SELL = Side.SELL
