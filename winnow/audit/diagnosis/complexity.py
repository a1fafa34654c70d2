"""D3: how much more complex a model has to be, because of wrong labels.

Measured on at most a thousand images: support vectors of a linear machine and leaves of a pruned tree count what has to
be remembered, and grow with wrong labels; effective degrees of freedom say how much model the labels still bear.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from winnow.audit.diagnosis.added_noise import DELTAS, REPEATS, with_added_noise
from winnow.audit.diagnosis.evidence import Evidence
from winnow.audit.diagnosis.learner import PENALTIES, Fitted, Learner, standardised
from winnow.audit.diagnosis.measure import Diagnostic, Measure, over_draws
from winnow.data.randomness import permutation, stream_key
from winnow.noise.features import reproducible_fit
from winnow.noise.intervals import clopper_pearson

MOST = 1000
ENOUGH = 0.95
_COMPARED = 0.1
_MEANT = {
    "support_vectors": f"share of at most {MOST:,} images that a linear machine keeps",
    "leaves": f"of a pruned tree on at most {MOST:,} images",
    "degrees_of_freedom": "of the most penalised linear model with 95 % of the best agreement",
}
QUANTITIES = tuple(_MEANT)


def complexity(evidence: Evidence, learner: Learner, *, seed: int) -> Diagnostic:
    """Size of three models under added noise, and how much of what is doubted a linear model memorises.

    Args:
        evidence: the collection.
        learner: fits all of its images.
        seed: of the draws.
    """
    order = permutation(stream_key(seed, "diagnose/complexity"), np.arange(len(evidence)))
    rows = np.sort(order[:MOST])
    found = np.empty((REPEATS, len(DELTAS), len(QUANTITIES)))
    values = standardised(evidence.features)
    for draw in range(REPEATS):
        for place, delta in enumerate(DELTAS):
            if not delta and draw:
                found[draw, place] = found[0, place]  # no noise, no draw
                continue
            noisy = with_added_noise(evidence.labels, delta, evidence.num_classes, seed=seed, draw=draw)
            vectors, leaves = model_sizes(values[rows], noisy[rows])
            found[draw, place] = vectors, leaves, degrees_of_freedom(learner, learner.fit(noisy))
    added = found[:, DELTAS.index(_COMPARED)] / found[:, 0]
    told = [
        over_draws(f"{name}_ratio", ratios, f"after {_COMPARED:g} of added noise")
        for name, ratios in zip(QUANTITIES, added.T, strict=True)
    ]
    curve = [
        {
            "added": delta,
            **{name: over_draws(name, v, _MEANT[name]) for name, v in zip(QUANTITIES, sizes.T, strict=True)},
        }
        for delta, sizes in zip(DELTAS, found.transpose(1, 0, 2), strict=True)
    ]
    return Diagnostic.of(*told, _memorised(evidence, learner), sizes=curve)


def model_sizes(features: np.ndarray, labels: Int[np.ndarray, " n"]) -> tuple[float, float]:
    """(share of the images that are support vectors of a linear machine, leaves of a tree pruned by cost complexity).

    The price of a leaf is 1 / n of Gini's impurity: a leaf for a single wrong label among right ones saves up to twice
    that, so that such labels are remembered where one cut does it.

    Args:
        features: standardised, (n, D).
        labels: at least two classes.
    """
    from sklearn.svm import SVC  # these take a second to import
    from sklearn.tree import DecisionTreeClassifier

    with reproducible_fit():
        machine = SVC(kernel="linear", C=1 / features.shape[1]).fit(features, labels)
        tree = DecisionTreeClassifier(ccp_alpha=1 / len(labels), random_state=0).fit(features, labels)
    return len(machine.support_) / len(labels), float(tree.get_n_leaves())


def degrees_of_freedom(learner: Learner, fitted: Fitted) -> float:
    """Of the largest ridge penalty that reaches 95 % of the best out-of-fold agreement."""
    enough = np.flatnonzero(fitted.agreement >= ENOUGH * fitted.agreement.max())
    return learner.degrees_of_freedom(float(PENALTIES[enough[-1]]))


def _memorised(evidence: Evidence, learner: Learner) -> Measure:
    contradicted = evidence.predicted != evidence.labels
    number = int(contradicted.sum())
    hits = int((learner.in_sample(evidence.labels) == evidence.labels)[contradicted].sum())
    share = hits / number if number else 0.0
    assumption = "share of the labels contradicted out of fold that a linear model gives once it is fitted to them"
    return Measure("memorised", share, clopper_pearson(hits, number), assumption)
