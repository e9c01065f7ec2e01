"""What vsnapfs.toml says shall happen by itself, and what follows from it: facts in, plan out, no I/O."""
