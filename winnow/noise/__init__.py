"""Label noise: generators, transition matrices, and noisy collections as files."""
