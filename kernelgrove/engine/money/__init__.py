"""What calls cost: tokens counted before they are sent, prices, and the bill of each call."""

from .prices import Price, find, load
from .tokens import estimate

__all__ = ["Price", "estimate", "find", "load"]
