"""The parts of bench_cpu.py: what is measured, with whom, and how it is told."""
