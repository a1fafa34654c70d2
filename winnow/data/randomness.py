"""Random numbers as a pure function of (run seed, purpose, epoch, sample index).

Nothing here keeps a state, so order and augmentation depend neither on the number of workers nor on what ran before,
and a resumed run replays nothing. The mixer is SplitMix64 (Steele, Lea & Flood 2014).
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_COLUMN = np.uint64(0xD1B54A32D192ED03)


def stream_key(seed: int, purpose: str, epoch: int = 0) -> int:
    """A 64-bit key naming one stream of random numbers."""
    return int.from_bytes(blake2b(f"{seed}/{purpose}/{epoch}".encode(), digest_size=8).digest(), "little")


def _mix(values: np.ndarray) -> np.ndarray:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def sample_keys(key: int, indices: np.ndarray) -> np.ndarray:
    """One uint64 a sample, (N,), from a stream key and the samples' indices."""
    with np.errstate(over="ignore"):
        return _mix(np.uint64(key) + (indices.astype(np.uint64) + np.uint64(1)) * _GOLDEN)


def uniforms(key: int, indices: np.ndarray, columns: int) -> np.ndarray:
    """Uniform numbers in [0, 1), (N, columns): row n depends on `key` and `indices[n]` alone."""
    with np.errstate(over="ignore"):
        counters = np.arange(1, columns + 1, dtype=np.uint64) * _COLUMN
        bits = _mix(sample_keys(key, indices)[:, None] + counters)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(key: int, indices: np.ndarray) -> np.ndarray:
    """`indices` in an order fixed by `key`: computed, not drawn."""
    return indices[np.argsort(sample_keys(key, indices), kind="stable")]


def text_keys(key: int, texts: list[str]) -> np.ndarray:
    """One uint64 a text, (N,): randomness tied to a stable id, whatever row the text stands in."""
    prefix = key.to_bytes(8, "little")
    digests = b"".join(
        blake2b(prefix + text.encode("utf-8", "surrogateescape"), digest_size=8).digest() for text in texts
    )
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
