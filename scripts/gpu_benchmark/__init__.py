"""The parts of bench_gpu.py that are its own: what is measured, with whom, against which aims, and how it is told."""
