"""What bench_cpu.py and bench_gpu.py share: how programs are run, PyTorch is kept, and figures are told."""
