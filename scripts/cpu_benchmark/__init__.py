"""The parts of bench_cpu.py that are its own: what is measured, with whom, and how it is told."""
