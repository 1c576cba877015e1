"""GridTokenX: a peer network for trading electricity between neighbours. 1 kWh = 1 GridToken."""

__version__ = "0.1.0"
