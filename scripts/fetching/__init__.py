"""What scripts/fetch.py is made of: pinned downloads, package registries, rebuilt texts."""
