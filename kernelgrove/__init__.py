"""KernelGrove: search for faster GPU kernels.

Importing this package imports nothing heavy, so that ``--help`` is quick and a bare GPU image that has only torch
and triton can run ``kernelgrove.engine.evaluator.worker``.
"""

__version__ = "0.1.0"
