"""Landscapes that searches run on without a GPU or a model, and the comparison of strategies over them.

``suite`` holds the parameters, ``synthetic`` and ``recorded`` what answers, ``simulator`` the loop. The parameters were
committed before any strategy was run on them; docs/benchmarks/landscapes.md says what each is fitted to.
"""
