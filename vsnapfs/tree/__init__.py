"""The mounted tree: what it shows (pure) and the one module that speaks FUSE."""
