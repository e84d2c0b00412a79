"""Benchmarks of the CPU: what is measured, with whom, and how it is told."""
