"""Which labels are wrong, from features of the images: two held-out opinions, self-cleaned, one calibrated belief.

Every image is judged by its nearest neighbours and by a kernel machine; neither has seen its label, or its copies.
Labels that lose are left out, and all images are judged again. The mean of the two opinions becomes a probability by
maximum likelihood of the given labels (`latent_labels`). docs/audit-method.md tells it in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from winnow.audit.findings import LabelBeliefs
from winnow.audit.held_out import FoldModels, HeldOutRidge, neighbour_spread
from winnow.audit.latent_labels import Candidates, ModelError, Posterior, posterior
from winnow.audit.memory import with_memory
from winnow.audit.probabilities import checked_probabilities, named_rows
from winnow.audit.reasons import reasons_of
from winnow.audit.votes import VOTERS, Voters
from winnow.errors import InvalidInput
from winnow.functional.neighbours import Neighbours, neighbours
from winnow.noise.estimate import joint_transition_matrix

ROUNDS = 3
COLUMNS = 20
"""Classes that an image is taken for at most: of any beyond the twentieth most likely nothing is believed."""
DECISIVE_LEAD = 0.03
"""By how much of the scores, which sum to one, another class has to beat a label."""
SHARED_ERROR = 2.0
"""Times the squared error: the share of labels that a model would doubt by its own fault and that are kept."""
DOUBTED_TRUST = 0.5
"""Weight of a doubted image's vote, which goes to the class it looks like."""
MOST_ERROR = 0.5
"""Share of the images that the models get wrong, above which none of their doubts is more probably right than wrong."""
_Z = 1.96
_COMPARED_ROWS = 2000


def judge(
    features: Float[np.ndarray, "n dim"],
    labels: Int[np.ndarray, " n"],
    num_classes: int,
    *,
    graph: Neighbours | None = None,
    probs: Float[np.ndarray, "n classes"] | None = None,
    memory: Float[np.ndarray, " n"] | None = None,
    verified: Bool[np.ndarray, " n"] | None = None,
    groups: Int[np.ndarray, " n"] | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
) -> LabelBeliefs:
    """How far every label can be believed, and which to look at first.

    A label is flagged where it is more probably wrong than right; how many that are follows. The same input gives the
    same answer, to the bit.

    Args:
        features: one row an image; near rows should be like images.
        labels: class indices, -1 where missing: such an image is given a suggestion.
        num_classes: K.
        graph: neighbours of all rows among themselves, more than ten where there are copies; None = searched here,
            and columns of very unlike scales are then standardised if neighbours agree more for it.
        probs: further class probabilities, of a model that did not see the row.
        memory: mean probability of the given label over a training, NaN where there is none.
        verified: whose label is known to be right; never flagged.
        groups: copies of one image share a number, -1 = alone. They say nothing of each other.
        class_names: for the reasons.
        seed: of folds and landmarks.

    Returns:
        The suggestion is the most probable class; of a flagged label the most probable other one. The only label of
        its class is not judged: its quality is NaN.

    Raises:
        InvalidInput: arrays that do not fit each other, or numbers that nothing can be concluded from; rows are named.
    """
    verified = np.zeros(len(labels), dtype=bool) if verified is None else verified
    _check(features, labels, num_classes, graph, memory, verified, groups)
    further = _checked_probs(labels, probs, num_classes)
    if graph is None:
        features = _scaled(features, labels)
        graph = neighbours(features, VOTERS + _copies(groups))
    voters = Voters.of(graph, groups)
    ridge = HeldOutRidge(features, labels, num_classes, neighbour_spread(features, graph.indices), groups, seed)
    counts = np.bincount(labels[labels >= 0], minlength=num_classes)
    judged = (labels >= 0) & ~verified & (counts[labels] > 1)
    opinion = Opinion(labels, labels >= 0, labels, np.ones(len(labels)))
    for number in range(ROUNDS):
        models = ridge.fitted(opinion.kept)
        candidates = _candidates(models, voters, opinion, further, judged, verified, num_classes)
        mistaken = candidates.verified & (candidates.best != labels)
        error = ModelError(*models.disagreement(), int(mistaken.sum()), int(candidates.verified.sum()))
        if number < ROUNDS - 1:
            opinion = opinion.cleaned(candidates, error)
    beliefs = posterior(candidates, num_classes, error, seed=seed)
    if memory is not None:
        beliefs = with_memory(beliefs, candidates, memory)
    if error.expected > MOST_ERROR and further is None:  # nothing is known of how often a model of yours errs
        beliefs = _undecided(beliefs, candidates)
    return _concluded(candidates, beliefs, voters, opinion, class_names, num_classes)


@dataclass(frozen=True)
class Opinion:
    """What a round of judging may learn from.

    Attributes:
        labels: as given, -1 where missing.
        kept: whose label the kernel machine learns.
        ballots: what each image votes for among its neighbours, -1 = nothing.
        trust: weight of that vote.
    """

    labels: np.ndarray
    kept: np.ndarray
    ballots: np.ndarray
    trust: np.ndarray

    def cleaned(self, candidates: Candidates, error: ModelError) -> Opinion:
        """Without the labels that another class beats most clearly: not learnt, and their vote goes to that class.

        A weak model keeps most of what it doubts, lest it learn only what it believes already. A tie decides nothing:
        beside a wrong label, the two other images of a class of three would fall with it.
        """
        best, judged = candidates.best, candidates.judged
        own = candidates.scores[np.arange(len(best)), candidates.own]
        lead = np.where(judged, candidates.scores.max(axis=1) - own, 0)
        count = round((judged & (best != self.labels)).sum() - SHARED_ERROR * error.expected**2 * judged.sum())
        doubted = np.zeros(len(best), dtype=bool)
        doubted[np.argsort(-lead, kind="stable")[: max(count, 0)]] = True
        doubted &= lead > DECISIVE_LEAD
        return Opinion(
            self.labels,
            (self.labels >= 0) & ~doubted,
            np.where(doubted, best, self.labels),
            np.where(doubted, DOUBTED_TRUST, 1.0),
        )


def _candidates(
    models: FoldModels,
    voters: Voters,
    opinion: Opinion,
    further: np.ndarray | None,
    judged: np.ndarray,
    verified: np.ndarray,
    num_classes: int,
) -> Candidates:
    """The mean opinion on every image, of its most likely classes and the given one."""
    labels = opinion.labels
    width = min(num_classes, COLUMNS)
    classes = np.empty((len(labels), width), dtype=np.int64)
    scores = np.empty((len(labels), width), dtype=np.float32)
    weight = 0.0 if further is None else _reliability(further, models, labels)
    for rows, mean in models.scores():
        votes, total = voters.shares(rows, opinion.ballots, opinion.trust, num_classes)
        heard = total > 0
        mean[heard] = (mean[heard] + votes[heard]) / 2
        if further is not None:
            mean = ((1 - weight) * mean + weight * further[rows]).astype(np.float32)
        classes[rows], scores[rows] = _widest(mean, labels[rows], width)
    own = np.where(labels >= 0, (classes == labels[:, None]).argmax(axis=1), -1)
    return Candidates(classes, scores, own, labels, judged, verified & (labels >= 0))


def _widest(scores: np.ndarray, labels: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(classes, scores) of the largest scores and of the label, each (rows, width), in the order of the classes."""
    if width == scores.shape[1]:
        return np.broadcast_to(np.arange(width), scores.shape), scores
    rows = np.flatnonzero(labels >= 0)
    lifted = scores.copy()
    lifted[rows, labels[rows]] = np.inf
    classes = np.sort(np.argpartition(lifted, -width, axis=1)[:, -width:], axis=1)
    return classes, np.take_along_axis(scores, classes, axis=1)


def _reliability(further: np.ndarray, models: FoldModels, labels: np.ndarray) -> float:
    """Weight of the further probabilities beside the mean of both opinions: log odds of agreeing with labels."""
    known = labels >= 0
    agreements = np.zeros(2)
    for rows, scores in models.scores():
        mine = rows[known[rows]]
        agreements += (
            (scores[known[rows]].argmax(axis=1) == labels[mine]).sum(),
            (further[mine].argmax(axis=1) == labels[mine]).sum(),
        )
    others = max(further.shape[1] - 1, 1)
    odds = (agreements + 1) / (known.sum() - agreements + 1) * others
    ours, theirs = np.maximum(np.log(odds), 1e-3)
    return float(theirs / (ours + theirs))


def _undecided(beliefs: Posterior, candidates: Candidates) -> Posterior:
    """Half of each doubt, so that no label is flagged and their order stays; the noise rate may as well be 0.

    A thousand classes of three images are an example: two models hardly ever name the same class, and whatever label
    is given, they name another one.
    """
    rows = np.flatnonzero(candidates.own >= 0)
    classes = beliefs.classes.copy()
    classes[rows] /= 2
    classes[rows, candidates.own[rows]] += 0.5
    rate = beliefs.noise_rate / 2
    return Posterior(classes, rate, max(beliefs.rate_spread, rate))


def _concluded(
    candidates: Candidates,
    beliefs: Posterior,
    voters: Voters,
    opinion: Opinion,
    class_names: Sequence[str] | None,
    num_classes: int,
) -> LabelBeliefs:
    labels, judged, everyone = candidates.labels, candidates.judged, np.arange(len(candidates.labels))
    quality = np.full(len(labels), np.nan)
    known = np.flatnonzero(judged | candidates.verified)
    quality[known] = beliefs.classes[known, candidates.own[known]]
    flagged = judged & (quality < 0.5)
    ranking = beliefs.classes.copy()
    ranking[flagged, candidates.own[flagged]] = -1
    place = ranking.argmax(axis=1)
    suggested, probability = candidates.classes[everyone, place], beliefs.classes[everyone, place]
    joint = np.zeros((num_classes, num_classes))
    rows = np.flatnonzero(labels >= 0)
    np.add.at(joint, (labels[rows, None], candidates.classes[rows]), beliefs.classes[rows])
    matrix = joint_transition_matrix(joint)
    # Traces of probability fall on every class; of one that no label names they would make a row out of nothing.
    matrix[np.bincount(labels[rows], minlength=num_classes) == 0] = np.nan
    wrong = 1 - quality[judged]
    share = judged.sum() / max(len(rows), 1)
    rate = float(wrong.sum() / max(len(rows), 1))
    # Chance in each label, and what the labels leave open about the noise as a whole.
    deviation = np.hypot(np.sqrt((wrong * (1 - wrong)).sum()) / max(len(rows), 1), beliefs.rate_spread * share)
    return LabelBeliefs(
        label_quality=quality,
        suggested_label=suggested,
        suggested_probability=probability,
        is_issue=flagged,
        reasons=reasons_of(
            candidates, beliefs, voters, opinion.labels, np.flatnonzero(flagged), suggested, class_names
        ),
        joint=joint,
        transition_matrix=matrix,
        noise_rate=rate,
        noise_rate_interval=(max(0.0, rate - _Z * float(deviation)), min(1.0, rate + _Z * float(deviation))),
        precision=float(1 - quality[flagged].mean()) if flagged.any() else float("nan"),
    )


def _scaled(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The features, standardised by column if neighbours agree with labels clearly more often for it."""
    deviation = features.std(axis=0, dtype=np.float64)
    scaled = ((features - features.mean(axis=0, dtype=np.float64)) / np.where(deviation > 0, deviation, 1)).astype(
        features.dtype
    )
    rows = np.flatnonzero(labels >= 0)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, _COMPARED_ROWS).astype(np.int64))] if len(rows) else rows
    if len(rows) < 2:
        return features
    right = []
    for kind in (features, scaled):
        nearest = neighbours(np.ascontiguousarray(kind[rows]), VOTERS).indices
        right.append((labels[rows][nearest] == labels[rows][:, None]).mean(axis=1))
    gain = right[1] - right[0]
    return scaled if gain.mean() > 2 * gain.std() / np.sqrt(len(rows)) else features


def _copies(groups: np.ndarray | None) -> int:
    """Of the image with the most."""
    if groups is None or not (groups >= 0).any():
        return 0
    return int(np.unique(groups[groups >= 0], return_counts=True)[1].max()) - 1


def _check(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    graph: Neighbours | None,
    memory: np.ndarray | None,
    verified: np.ndarray,
    groups: np.ndarray | None,
) -> None:
    """Refuses what cannot be judged.

    Raises:
        InvalidInput: see `judge`.
    """
    num = len(labels)
    lengths = {"features": features, "verified": verified, "memory": memory, "groups": groups}
    lengths |= {"graph": None if graph is None else graph.indices}
    for name, values in lengths.items():
        if values is not None and len(values) != num:
            raise InvalidInput(f"{name}: {len(values):,} rows for {num:,} labels; one row a label is needed")
    if not num or not features.shape[1]:
        raise InvalidInput(f"features: shape {features.shape}; at least one row and one column are needed")
    bad = np.flatnonzero((labels < -1) | (labels >= num_classes))
    if len(bad):
        raise InvalidInput(f"labels: {named_rows(bad)}: not among 0 to {num_classes - 1}, or -1 where one is missing")
    if not (labels >= 0).any():
        raise InvalidInput("labels: all are missing; labels can be judged only beside others")
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise InvalidInput(f"features: {named_rows(bad)}: NaN or infinite values")
    bad = np.flatnonzero(verified & (labels < 0))
    if len(bad):
        raise InvalidInput(f"verified: {named_rows(bad)}: there is no label")
    if memory is not None:
        bad = np.flatnonzero((memory < 0) | (memory > 1))
        if len(bad):
            raise InvalidInput(f"memory: {named_rows(bad)}: probabilities, from 0 to 1, are needed")


def _checked_probs(labels: np.ndarray, probs: np.ndarray | None, num_classes: int) -> np.ndarray | None:
    if probs is None:
        return None
    if probs.ndim != 2 or probs.shape[1] != num_classes:
        raise InvalidInput(f"probs: shape {probs.shape}; one column for each of the {num_classes} classes is needed")
    if num_classes == 1:
        return None
    return checked_probabilities(np.where(labels >= 0, labels, np.nan), probs).rows(slice(None))
