"""Losses and posteriors under a known noisy channel.

One orientation everywhere: the transition matrix T has entry (i, j) = P(noisy = j given clean = i), rows that sum to
one. Forward and backward correction after Patrini et al. 2017 (arXiv:1609.03683).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def forward_losses(
    log_probs: Float[Tensor, "batch classes"],
    noisy_labels: Int[Tensor, " batch"],
    transition_matrix: Float[Tensor, "classes classes"],
) -> Float[Tensor, " batch"]:
    """-log sum_i p(i) T[i, y]: how badly the clean prediction, sent through the channel, explains the given label.

    Its minimiser over noisy labels is the clean posterior. The gradient with respect to the logits is p - r, r the
    `label_posterior`. Entries of T may be zero; one class i with p(i) T[i, y] > 0 makes the loss finite.

    Args:
        log_probs: of the true class.
        noisy_labels: as annotated.
        transition_matrix: T.

    Returns:
        The loss of each sample, in nats.
    """
    return -torch.logsumexp(log_probs + transition_matrix.log().T[noisy_labels], dim=1)


def label_posterior(
    probs: Float[Tensor, "batch classes"],
    noisy_labels: Int[Tensor, " batch"],
    transition_matrix: Float[Tensor, "classes classes"],
) -> Float[Tensor, "batch classes"]:
    """P(true class | image, given label): the belief times the chance of this label for that class, normalised.

    Args:
        probs: of the true class, before the label was seen.
        noisy_labels: as annotated.
        transition_matrix: T.
    """
    joint = probs * transition_matrix.T[noisy_labels]
    return joint / joint.sum(dim=1, keepdim=True)
