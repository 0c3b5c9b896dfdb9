"""Benchmarks: what the daemon costs, each beside a yardstick that is measured in the same run."""
