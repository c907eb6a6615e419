"""What the harness costs, beside what people would otherwise run: ``python -m benchmarks.grid``."""
