"""Scripts that print what docs/benchmarks.md claims; `python -m benchmarks.NAME` in the repository's folder."""
