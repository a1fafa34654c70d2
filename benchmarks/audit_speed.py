"""Goals P10 to P15: what an audit is made of, against cleanlab and imagehash where they are installed."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.audit_scale import finder, in_a_process, read_input, write_input
from benchmarks.memory import MEGABYTE
from benchmarks.ratio import alternated
from benchmarks.record import Finding, Skipped

ROUNDS = 7
SIZES = ((1_000_000, 10), (1_000_000, 100))
DUPLICATES = (20_000, 256, 1000)
"""Embeddings, their dimensions, and how many of them are near copies of others."""
K, NEAR, FAR = 10, 0.13, 0.37037
"""Datalab's defaults: neighbours, and the thresholds of near duplicates and of outliers."""
IMAGES = 2000


def p10(sizes: tuple[tuple[int, int], ...] = SIZES, rounds: int = ROUNDS) -> list[Finding]:
    """The confident joint: cleanlab's against ours."""
    _needs("cleanlab")
    from cleanlab.count import compute_confident_joint

    from winnow.noise.confident_joint import confident_joint

    findings = []
    for size, goal in zip(sizes, (5, 2.5), strict=True):
        labels, probs = _data(*size)
        theirs = partial(compute_confident_joint, labels, probs, calibrate=False)
        ours = partial(confident_joint, labels, probs)
        differ = int(np.abs(theirs() - ours()).sum())
        ratio = alternated(theirs, ours, rounds)
        what = f"confident joint, cleanlab / ours, {_shape(size)}"
        findings.append(Finding.of(what, ratio, at_least=goal, counts_that_differ=differ))
    return findings


def p11(sizes: tuple[tuple[int, int], ...] = SIZES, rounds: int = ROUNDS) -> list[Finding]:
    """Label issues with all checks of the input: cleanlab's in one process against ours."""
    _needs("cleanlab")
    findings = []
    for size, goal in zip(sizes, (4, 3), strict=True):
        labels, probs = _data(*size)
        theirs, ours = (partial(finder(who), labels, probs) for who in ("cleanlab", "winnow"))
        first, second = theirs(), ours()
        ratio = alternated(theirs, ours, rounds)
        flags = {"cleanlab": int(first.sum()), "ours": int(second.sum()), "both": int((first & second).sum())}
        findings.append(Finding.of(f"label issues, cleanlab / ours, {_shape(size)}", ratio, at_least=goal, flags=flags))
    return findings


def p12(size: tuple[int, int] = SIZES[1]) -> list[Finding]:
    """Peak memory above the input, as a share of it, in a process each."""
    findings = []
    with tempfile.TemporaryDirectory() as name:
        write_input(Path(name), *size)
        megabytes = 4 * size[0] * size[1] / MEGABYTE
        for who in ("winnow", "cleanlab"):
            if who == "winnow" or find_spec(who) is not None:
                rise = in_a_process(who, Path(name), rounds=1)["rise_mb"]
                what = f"label issues, peak above the input / input, {_shape(size)}, {who}"
                goal = 0.25 if who == "winnow" else None
                findings.append(Finding(what, rise / megabytes, at_most=goal, unit="", details={"rise_mb": rise}))
    return findings


def p13(sizes: tuple[tuple[int, int], ...] = SIZES, rounds: int = ROUNDS) -> list[Finding]:
    """The confident joint against one sum over the probabilities."""
    from winnow.noise.confident_joint import confident_joint

    findings = []
    for size in sizes:
        labels, probs = _data(*size)
        ratio = alternated(partial(confident_joint, labels, probs), probs.sum, rounds)
        findings.append(Finding.of(f"confident joint / one sum over the input, {_shape(size)}", ratio, at_most=30))
    return findings


def p14(size: tuple[int, int, int] = DUPLICATES, rounds: int = ROUNDS) -> list[Finding]:
    """Near duplicates and outliers: Datalab against one graph of ours, by Datalab's two rules, and LOF on top of it."""
    _needs("cleanlab", "datasets")
    features = _embeddings(*size)
    latest: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    ratio = alternated(
        lambda: latest.update(theirs=datalab_findings(features)),
        lambda: latest.update(ours=graph_findings(features)),
        rounds,
    )
    (their_near, their_far), (near, far) = latest["theirs"], latest["ours"]
    copies = np.arange(len(features)) >= size[0] - size[2]
    what = f"near duplicates and outliers, Datalab / ours, {size[0]:,} x {size[1]}"
    found = {
        "near_duplicates": [int(their_near.sum()), int(near.sum())],
        "outliers": [int(their_far.sum()), int(far.sum())],
    }
    return [
        Finding.of(what, ratio, at_least=5, datalab_and_ours=found),
        Finding(
            "rows whose findings differ", int(((their_near != near) | (their_far != far)).sum()), at_most=0, unit=""
        ),
        Finding("planted copies that we find", int(near[copies].sum()), at_least=size[2], unit=""),
    ]


def p15(images: int = IMAGES, rounds: int = ROUNDS) -> list[Finding]:
    """The perceptual hash of decoded images: imagehash, one by one, against ours."""
    _needs("imagehash")
    import imagehash

    from winnow.functional.hashing import perceptual_hash

    pixels = np.random.default_rng(0).integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
    pictures = [Image.fromarray(picture) for picture in pixels]
    ratio = alternated(
        lambda: [imagehash.phash(picture) for picture in pictures], partial(perceptual_hash, pixels), rounds
    )
    return [Finding.of("perceptual hash, imagehash / ours, 32x32x3, decoded", ratio, at_least=5.5)]


def datalab_findings(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(near duplicates, outliers), boolean (N,) each, by cleanlab's Datalab."""
    from cleanlab import Datalab

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        lab = Datalab(data={"row": np.arange(len(features))})
        lab.find_issues(features=features, issue_types={"near_duplicate": {}, "outlier": {}})
        issues = lab.get_issues()
    return issues["is_near_duplicate_issue"].to_numpy(), issues["is_outlier_issue"].to_numpy()


def graph_findings(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same from our graph: nearer than .13 of the median nearest distance, or far by the mean distance's quartiles.

    Local outlier factors are computed too, for what an audit calls an outlier comes of them.
    """
    from winnow.functional.local_outliers import local_outlier_factors
    from winnow.functional.neighbours import neighbours

    graph = neighbours(features, K, metric="cosine")
    local_outlier_factors(graph)
    close = graph.distances < NEAR * np.median(graph.distances[:, 0])
    near = close.any(axis=1)
    near[graph.indices[close]] = True
    mean = graph.distances.mean(axis=1)
    low, high = np.percentile(mean, [25, 75])
    return near, mean > high + (1 / FAR - 1) * (high - low)


def _embeddings(num: int, dimensions: int, copies: int) -> np.ndarray:
    """Random embeddings; the last ones are near copies of the first."""
    random = np.random.default_rng(0)
    features = random.standard_normal((num, dimensions)).astype(np.float32)
    noise = random.standard_normal((copies, dimensions)).astype(np.float32)
    features[num - copies :] = features[:copies] + np.float32(0.01) * noise
    return features


def _data(num: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    with tempfile.TemporaryDirectory() as name:
        write_input(Path(name), num, classes)
        return read_input(Path(name))


def _shape(size: tuple[int, ...]) -> str:
    return " x ".join(f"{number:,}" for number in size)


def _needs(*packages: str) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise Skipped(f"{' and '.join(missing)} not installed")


BENCHMARKS: Mapping[str, Callable[[], list[Finding]]] = {
    "P10": p10,
    "P11": p11,
    "P12": p12,
    "P13": p13,
    "P14": p14,
    "P15": p15,
}
