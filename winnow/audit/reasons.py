"""Why a label is flagged, as a sentence for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from winnow.audit.latent_labels import Candidates, Posterior
from winnow.audit.votes import Voters


def reasons_of(
    candidates: Candidates,
    beliefs: Posterior,
    voters: Voters,
    labels: np.ndarray,
    rows: np.ndarray,
    suggested: np.ndarray,
    class_names: Sequence[str] | None,
) -> Mapping[int, str]:
    """A sentence for each of some rows: neighbours, model, and the two probabilities.

    Args:
        candidates: with the scores that were judged by.
        beliefs: of these.
        voters: neighbours asked.
        labels: as given, (N,), -1 where missing.
        rows: which.
        suggested: most probable other class, (N,).
        class_names: None = `class 3`.
    """
    found = {}
    for row in rows.tolist():
        asked = voters.indices[row][voters.weights[row] > 0]
        asked = asked[labels[asked] >= 0]
        other, given = int(suggested[row]), int(labels[row])
        names = [class_names[k] if class_names is not None else f"class {k}" for k in (other, given)]
        columns = candidates.classes[row].tolist()
        scores = candidates.scores[row]
        margin = float(scores[columns.index(other)] - scores[columns.index(given)])
        right = float(beliefs.classes[row, candidates.own[row]])
        near = f"{int((labels[asked] == other).sum())} of {len(asked)} nearest images are labelled {names[0]}, "
        near += f"{int((labels[asked] == given).sum())} {names[1]}; " if len(asked) else ""
        found[row] = (
            (near if len(asked) else "")
            + f"held-out score of {names[0]} {'ahead' if margin >= 0 else 'behind'} by {abs(margin):.2f}; "
            + f"{names[1]} is right with probability {right:.0%}"
        )
    return found
