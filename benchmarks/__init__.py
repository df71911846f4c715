"""Measurements; see docs/performance.md. They need requirements-bench.txt."""
