"""What ``vsnapfs.toml`` says of work that runs by itself, and the arithmetic of it: facts in, plan out, no I/O."""
