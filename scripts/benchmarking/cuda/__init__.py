"""Benchmarks of a GPU: what is measured, with whom, against which aims, and how it is told."""
