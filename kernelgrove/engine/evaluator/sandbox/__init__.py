"""The worker sandbox: what an untrusted program runs in, layer by layer, and how it is found and killed.

Standard library only. A nursery imports this package (and computes ``default_read_paths()``) once, is itself started
with ``clean_environment()``, and each worker it forks calls ``enter`` first of all. Design and findings:
``docs/design``, the evaluator.
"""

from .disk import Disk, holds_more
from .environment import SEARCH_PATH, clean_environment
from .homes import Home, sweep
from .identity import PrivateUser, claim_user, hand_over
from .layers import REQUIRED, Layer, Policy, SandboxError, enter
from .leavings import Copier, remove
from .limits import shared_bytes
from .paths import default_read_paths
from .probe import probe
from .processes import (
    become_subreaper,
    children,
    descendants,
    halt,
    is_running,
    kill_strays,
    kill_tree,
    killing,
    oom_kills,
    processes_of,
    reap_orphans,
    resume,
    settled_ns,
    signal_name,
    thread_ns,
)

__all__ = [
    "REQUIRED",
    "SEARCH_PATH",
    "Copier",
    "Disk",
    "Home",
    "Layer",
    "Policy",
    "PrivateUser",
    "SandboxError",
    "become_subreaper",
    "children",
    "claim_user",
    "clean_environment",
    "default_read_paths",
    "descendants",
    "enter",
    "halt",
    "hand_over",
    "holds_more",
    "is_running",
    "kill_strays",
    "kill_tree",
    "killing",
    "oom_kills",
    "probe",
    "processes_of",
    "reap_orphans",
    "remove",
    "resume",
    "settled_ns",
    "shared_bytes",
    "signal_name",
    "sweep",
    "thread_ns",
]
