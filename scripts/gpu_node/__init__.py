"""Stages of a bundle on a GPU node (scripts/gpu_run.py): what they run, within which time, and what is kept of them."""
