"""What the store costs, as ratios in one run: ``python -m benchmarks.store``; figures in docs/benchmarks/store.md."""
