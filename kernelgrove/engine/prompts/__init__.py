"""Prompts: what a proposer is told, built from a request by templates, within a budget of tokens."""

from .build import Prompt, build, purpose
from .parts import PARTS, Parts

__all__ = ["PARTS", "Parts", "Prompt", "build", "purpose"]
