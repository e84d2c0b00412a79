"""What the benchmarks of all devices share: how programs are run, PyTorch is kept, and figures are told."""
