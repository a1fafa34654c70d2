"""The exact neighbour graph of isotropic points, and local outlier factors on top of it, in CPU seconds.

Isotropic points have no clusters and are the hardest case for a search. The goals are for one thread of about 70
billion float32 operations a second in products, and are absolute, so they are measured once and not in turn.
"""

from __future__ import annotations

import time
from functools import partial
from importlib.util import find_spec

import numpy as np

from benchmarks.ratio import alternated
from benchmarks.record import Finding
from winnow.functional.local_outliers import local_outlier_factors
from winnow.functional.neighbours import Neighbours, neighbours

POINTS, DIMENSIONS, K = 50_000, 128, 10
LIMITS = {"faiss": 12.0, "torch": 18.0}


def neighbour_graph(points: int = POINTS) -> list[Finding]:
    """The searches that are here, whether they agree, and LOF at all points against half of them."""
    features = np.random.default_rng(0).standard_normal((points, DIMENSIONS)).astype(np.float32)
    graphs: dict[str, Neighbours] = {}
    findings = []
    for search in LIMITS:
        if find_spec(search) is None:
            continue
        neighbours(features[:2000], K, search=search)  # imports, threads
        started = time.process_time()
        graphs[search] = neighbours(features, K, search=search)
        seconds = time.process_time() - started
        what = f"{K} nearest of {points:,} x {DIMENSIONS}, {search}"
        findings.append(Finding(what, seconds, at_most=LIMITS[search], unit="s"))
    first, *others = graphs.values()
    for other in others:
        differ = float((first.indices != other.indices).any(axis=1).mean())
        apart = float(np.abs(first.distances - other.distances).max())
        what = "rows in which the searches differ"
        findings.append(Finding(what, differ, at_most=0, unit="share", details={"distances_apart": apart}))
    half = Neighbours(first.indices[: points // 2] // 2, first.distances[: points // 2])
    ratio = alternated(partial(local_outlier_factors, first), partial(local_outlier_factors, half))
    findings.append(Finding.of("local outlier factors on top, twice the points", ratio, at_most=2.5))
    return findings
