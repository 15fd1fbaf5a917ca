"""What an answer must look like, and reading ones that nearly do: ideas, one program, ratings."""

from .code import program
from .contract import Contract, Unreadable, contract, read

__all__ = ["Contract", "Unreadable", "contract", "program", "read"]
