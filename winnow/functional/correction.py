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


def backward_losses(
    log_probs: Float[Tensor, "batch classes"],
    noisy_labels: Int[Tensor, " batch"],
    inverse_matrix: Float[Tensor, "classes classes"],
) -> Float[Tensor, " batch"]:
    """-sum_k T^-1[y, k] log p(k): in the mean over the noisy label of an image, its cross-entropy on the true one.

    The gradient with respect to the logits is p - T^-1[y, :]: cross-entropy with a soft label, whose entries sum to one
    but may be negative. So the loss has no lower bound, and a large network can lower it for ever.

    Args:
        log_probs: of the true class.
        noisy_labels: as annotated.
        inverse_matrix: T^-1, inverted once.

    Returns:
        The loss of each sample, in nats.
    """
    # Elementwise: a matrix product would be cut to 8 bits of mantissa where networks run in bfloat16.
    return -(inverse_matrix[noisy_labels] * log_probs).sum(dim=1)


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
