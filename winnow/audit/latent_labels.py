"""Which labels are wrong, by maximum likelihood: a true class behind each picture, and two accounts of the noise.

Held-out class scores s say how a picture looks: P(true class j) = softmax(a s)_j. The label follows from the true class
by one of two accounts. *By class*: it is wrong as often on easy as on hard pictures, and what it is then depends on the
true class alone. *By picture*: it is wrong more often where the scores are unsure, and then often the class that the
picture looks like next. The sharpness a and the rates of both accounts are those that make the given labels most
likely; no label is taken for true. What the likelihood leaves open (sharpness, account) is averaged by its weight, so
few pictures lead to less certain statements.

Only the most likely candidates of each picture are looked at, so work and memory do not grow with the classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from winnow.data.randomness import permutation, stream_key

SHARPNESS = np.geomspace(2.0, 64.0, 13)
_ERROR_SPREAD, _LEAST_ERROR_SPREAD = 0.25, 0.01
"""How well the disagreement of models foretells their error: share of it, and at least."""
_WORTH = 20.0
"""Verified images that the disagreement of models is worth."""
_LEAST_DOUBT = 0.5
_MISTAKEN = 1 / 3
"""Deviation of the noise rate, in units of the expected error, that no count of labels removes."""
_TRUSTED_ROWS = 1000
"""Both accounts are approximations: what a thousand labels do not tell, more labels do not either."""
_BINS = 5
_EXTRA_PARAMETERS = _BINS
"""Of the account by picture: a rate for each further bin, and the share that goes to the next class."""
_FITTED_ROWS = 3000
_STEPS = 20
_LAST_STEPS = 2
"""Over all pictures, once a sample of them has fitted an account."""
_PRIOR_ROWS = 10.0
_PRIOR_FLIPS = 2.0
_LEAST_WEIGHT = 0.02
_TINY = 1e-300
_TABLE = 2**22
"""Entries of a table that is worth more than sorting."""


@dataclass(frozen=True)
class Candidates:
    """The classes each of n pictures may be of, the given one among them.

    Attributes:
        classes: class of each column; of a row's columns no two are equal.
        scores: of these; -inf where a column is empty.
        own: the column of the given label, -1 where none is.
        labels: the given labels, -1 where missing.
        judged: whose label the noise is learnt from: given, not verified, not the only one of its class.
        verified: whose label is known to be right.
    """

    classes: Int[np.ndarray, "n columns"]
    scores: Float[np.ndarray, "n columns"]
    own: Int[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    judged: Bool[np.ndarray, " n"]
    verified: Bool[np.ndarray, " n"]

    @property
    def best(self) -> Int[np.ndarray, " n"]:
        """The class of the highest score, the first of equals."""
        return self.classes[np.arange(len(self.classes)), self.scores.argmax(axis=1)]

    def of(self, rows: np.ndarray) -> Candidates:
        """Those of some pictures."""
        return Candidates(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class ModelError:
    """How often the scores' best class is wrong, before anything is known of the noise.

    Attributes:
        different: how often two models that share no image name different classes,
        asked: of so many: about as often they are wrong.
        mistaken: how often the best class of a verified image is wrong,
        checked: of so many.
    """

    different: int
    asked: int
    mistaken: int = 0
    checked: int = 0

    @property
    def expected(self) -> float:
        """Share of pictures that the scores get wrong, above 0."""
        disagreement = (self.different + 1) / (self.asked + 2)
        return (_WORTH * disagreement + self.mistaken) / (_WORTH + self.checked)

    @property
    def doubt(self) -> float:
        """How far that may be off: 1 if nothing is verified, less the more is; the accounts stay approximations."""
        return float(max(_LEAST_DOUBT, (_WORTH / (_WORTH + self.checked)) ** 0.5))


@dataclass(frozen=True)
class Destinations:
    """Share of the wrong labels of class j that are g, for all j and g; only pairs that occur are stored.

    Attributes:
        pairs: j K + g, sorted.
        counts: wrong labels of each.
        totals: of each class j.
    """

    pairs: np.ndarray
    counts: np.ndarray
    totals: np.ndarray

    @classmethod
    def unknown(cls, num_classes: int) -> Destinations:
        """All other classes equally."""
        return cls(np.empty(0, dtype=np.int64), np.empty(0), np.zeros(num_classes))

    def of(self, pairs: np.ndarray) -> np.ndarray:
        """The share of each pair; every class is given two labels more, spread evenly over the others."""
        classes = len(self.totals)
        counts = np.zeros(pairs.shape)
        if len(self.pairs):
            place = np.minimum(np.searchsorted(self.pairs, pairs), len(self.pairs) - 1)
            counts = np.where(self.pairs[place] == pairs, self.counts[place], 0.0)
        return (counts + _PRIOR_FLIPS / max(classes - 1, 1)) / (self.totals[pairs // classes] + _PRIOR_FLIPS)


@dataclass(frozen=True)
class Pairs:
    """The (true class j, given label g) that candidates stand for.

    Attributes:
        values: j K + g of those that occur, sorted.
        member: which of them each candidate is; without a label as if it were 0.
    """

    values: Int[np.ndarray, " pairs"]
    member: Int[np.ndarray, "n columns"]

    @classmethod
    def of(cls, candidates: Candidates, num_classes: int) -> Pairs:
        """Those of some pictures."""
        every = candidates.classes * num_classes + np.maximum(candidates.labels, 0)[:, None]
        if num_classes**2 > _TABLE:
            values, member = np.unique(every, return_inverse=True)
            return cls(values, member.reshape(every.shape))
        # The same as sorting, for far less: a table of all pairs.
        occurs = np.zeros(num_classes**2, dtype=bool)
        occurs[every] = True
        return cls(np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[every])


@dataclass(frozen=True)
class Account:
    """One account of the noise at one sharpness.

    Attributes:
        sharpness: a.
        edges: of the unsureness between bins; none for the account by class.
        rates: how often labels of each bin are wrong.
        leaning: of each true class, as a factor of that.
        destinations: where wrong labels of each class go.
        by_class: share of the wrong labels that follow `destinations`; the others are the next class by looks.
        unsureness: mean of 1 - the largest P(class).
        likelihood: log, of the labels fitted to.
    """

    sharpness: float
    edges: np.ndarray
    rates: np.ndarray
    leaning: np.ndarray
    destinations: Destinations
    by_class: float
    unsureness: float
    likelihood: float = -np.inf


@dataclass(frozen=True)
class Posterior:
    """Beliefs of n pictures in the columns of their candidates.

    Attributes:
        classes: P(true class | picture, label).
        noise_rate: mean probability that a judged label is wrong.
        rate_spread: standard deviation of that over what the labels leave open, without chance.
    """

    classes: Float[np.ndarray, "n columns"]
    noise_rate: float
    rate_spread: float


def posterior(candidates: Candidates, num_classes: int, error: ModelError, *, seed: int = 0) -> Posterior:
    """Beliefs by both accounts, at every sharpness that the labels allow, weighted by how likely they make the labels.

    Args:
        candidates: with held-out scores.
        num_classes: K.
        seed: of the 3,000 pictures that choose, where there are more.
    """
    known = np.flatnonzero(candidates.judged | candidates.verified)
    if not candidates.judged.any():
        # Nothing is learnt of noise; how sure a class is follows from the models alone.
        looks = [_looks(candidates.scores, sharpness) for sharpness in SHARPNESS]
        away = [abs(np.log(_unsureness(one) / error.expected)) for one in looks]
        return Posterior(_certain(looks[int(np.argmin(away))], candidates), 0.0, 0.0)
    sample = np.sort(permutation(stream_key(seed, "audit/accounts"), known)[:_FITTED_ROWS])
    fitted = _fitted_accounts(candidates.of(sample), num_classes)
    pairs = Pairs.of(candidates, num_classes)
    learnt_from = candidates.of(known)
    their_pairs = Pairs.of(learnt_from, num_classes)
    evidence = np.array([_evidence(account, len(sample), error) for account in fitted])
    weights = np.exp(evidence - evidence.max())
    weights = np.where(weights >= _LEAST_WEIGHT * weights.sum(), weights, 0)
    weights /= weights.sum()
    beliefs = np.zeros(candidates.scores.shape)
    rates = []
    for account, weight in zip(fitted, weights, strict=True):
        if weight:
            if len(sample) < len(known):
                account = _fit(learnt_from, their_pairs, account, num_classes, steps=_LAST_STEPS)
            found = _beliefs(candidates, account, account.destinations.of(pairs.values)[pairs.member])[0]
            rates.append(_rate(found, candidates))
            beliefs += weight * found
    mean = float(np.dot(weights[weights > 0], rates))
    spread = float(np.dot(weights[weights > 0], (np.array(rates) - mean) ** 2) ** 0.5)
    # A picture that the scores get wrong may count as a wrong label, and a wrong label as such a picture.
    spread = float(np.hypot(spread, _MISTAKEN * error.expected * error.doubt))
    return Posterior(_certain(beliefs, candidates), mean, spread)


def _fitted_accounts(candidates: Candidates, num_classes: int) -> list[Account]:
    fitted = []
    pairs = Pairs.of(candidates, num_classes)
    for bins in (1, _BINS):
        before: Account | None = None
        # From the sharpest, where much noise is seen: a rate that has fallen to nothing hardly rises again.
        for sharpness in SHARPNESS[::-1]:
            start = _start(candidates, sharpness, bins, num_classes, before)
            before = _fit(candidates, pairs, start, num_classes, steps=_STEPS if before is None else _STEPS // 2)
            fitted.append(before)
    return fitted


def _evidence(account: Account, num: int, error: ModelError) -> float:
    """Log likelihood, less what parameters gain by chance (Schwarz 1978), and the log prior of the sharpness."""
    trusted = min(num, _TRUSTED_ROWS)
    deviation = (_ERROR_SPREAD * error.expected + _LEAST_ERROR_SPREAD) * error.doubt
    away = (account.unsureness - error.expected) / deviation
    extra = _EXTRA_PARAMETERS if len(account.rates) > 1 else 0
    return float(account.likelihood / num * trusted - extra * np.log(trusted) / 2 - away**2 / 2)


def _start(candidates: Candidates, sharpness: float, bins: int, classes: int, before: Account | None) -> Account:
    looks = _looks(candidates.scores, sharpness)
    unsureness = _unsureness(looks)
    edges = np.quantile(1 - looks[candidates.judged].max(axis=1), np.arange(1, bins) / bins)
    if before is not None:
        return replace(before, sharpness=sharpness, edges=edges, unsureness=unsureness)
    by_class = 1.0 if bins == 1 else 0.5
    return Account(
        sharpness, edges, np.full(bins, 0.15), np.ones(classes), Destinations.unknown(classes), by_class, unsureness
    )


def _looks(scores: np.ndarray, sharpness: float) -> np.ndarray:
    """softmax(a s), float64."""
    values = sharpness * (scores - scores.max(axis=1, keepdims=True)).astype(np.float64)
    np.exp(values, out=values)
    return values / values.sum(axis=1, keepdims=True)


def _unsureness(looks: np.ndarray) -> float:
    return float(np.maximum((1 - looks.max(axis=1)).mean(), 1e-6))


def _beliefs(
    candidates: Candidates, account: Account, shares: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(P(true class | picture, label), share of it by `destinations`, bins, likelihood of each label).

    Args:
        candidates: of the pictures.
        account: of the noise.
        shares: of the wrong labels of each candidate's class that are the given one, by its `destinations`.
    """
    looks = _looks(candidates.scores, account.sharpness)
    bins = np.searchsorted(account.edges, 1 - looks.max(axis=1))
    rows = np.flatnonzero(candidates.own >= 0)
    own = candidates.own[rows]
    chance = np.clip(account.leaning[candidates.classes[rows]] * account.rates[bins[rows], None], 0, 0.95)
    mine = looks[rows]
    given = mine[np.arange(len(rows)), own]
    wrong = mine * chance
    directed = wrong * shares[rows] * account.by_class
    joint = directed + wrong * given[:, None] / np.maximum(1 - mine, 1e-9) * (1 - account.by_class)
    right = given * (1 - chance[np.arange(len(rows)), own])
    directed[np.arange(len(rows)), own] = 0
    joint[np.arange(len(rows)), own] = right
    total = joint.sum(axis=1) + _TINY
    result = looks
    result[rows] = joint / total[:, None]
    result = _certain(result, candidates)
    likelihood = np.ones(len(result))
    likelihood[rows] = np.where(candidates.verified[rows], given + _TINY, total)
    by_destination = np.zeros_like(result)
    by_destination[rows] = directed / total[:, None]
    return result, by_destination, bins, likelihood


def _certain(beliefs: np.ndarray, candidates: Candidates) -> np.ndarray:
    """A verified label is right."""
    rows = np.flatnonzero(candidates.verified)
    beliefs[rows] = 0
    beliefs[rows, candidates.own[rows]] = 1
    return beliefs


def _fit(candidates: Candidates, pairs: Pairs, account: Account, num_classes: int, *, steps: int) -> Account:
    """Expectation maximisation at the account's sharpness."""
    judged = candidates.judged
    own = candidates.own[judged]
    labels, classes = candidates.labels[judged], candidates.classes[judged]
    values, member = pairs.values, pairs.member
    shares = account.destinations.of(values)[member]
    for _ in range(steps):
        beliefs, directed, bins, likelihood = _beliefs(candidates, account, shares)
        mine, directed, bins = beliefs[judged], directed[judged], bins[judged]
        wrong = 1 - mine[np.arange(len(mine)), own]
        mean = float((wrong.sum() + 1) / (len(wrong) + 2))
        number = np.bincount(bins, minlength=len(account.rates))
        rates = (np.bincount(bins, wrong, len(account.rates)) + _PRIOR_ROWS * mean) / (number + _PRIOR_ROWS)
        everyone = np.bincount(classes.ravel(), mine.ravel(), num_classes)
        right = np.bincount(labels, 1 - wrong, num_classes)
        leaning = (everyone - right + _PRIOR_ROWS * mean) / (everyone + _PRIOR_ROWS) / max(mean, 1e-12)
        flips = np.bincount(member[judged].ravel(), directed.ravel(), len(values))
        destinations = Destinations(values, flips, np.bincount(values // num_classes, flips, num_classes))
        shares = destinations.of(values)[member]
        by_class = account.by_class
        if len(account.rates) > 1:
            by_class = float((directed.sum() + 1) / (wrong.sum() + 2))
        account = replace(
            account,
            rates=rates,
            leaning=leaning,
            destinations=destinations,
            by_class=by_class,
            likelihood=float(np.log(likelihood).sum()),
        )
    return account


def _rate(beliefs: np.ndarray, candidates: Candidates) -> float:
    rows = np.flatnonzero(candidates.judged)
    return float(1 - beliefs[rows, candidates.own[rows]].mean())
