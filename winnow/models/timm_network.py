"""Networks of the timm library. It is imported only when one is named: with torchvision that takes seconds."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from winnow.errors import UsageError
from winnow.models.network import Network, Normalisation

_RATE, _FIXED_SIZE_RATE = 0.05, 0.01  # the latter are transformers, which plain gradient descent shakes easily


class TimmNetwork(Network):
    """A network of timm without its classifier, and a linear head. Never fetches weights.

    Raises:
        UsageError: it cannot take images of that size or number of channels.
    """

    architecture: ClassVar[str]
    classifiers: ClassVar[tuple[str, ...]]
    """What timm calls the head's layer."""

    def __init__(self, size: int, channels: int, num_classes: int):
        super().__init__()
        fixed: dict[str, Any] = {} if self.own_size is None else {"img_size": size}
        try:
            body = _timm().create_model(self.architecture, pretrained=False, num_classes=0, in_chans=channels, **fixed)
            patch = getattr(getattr(body, "patch_embed", None), "patch_size", (1, 1))
            if size % patch[0] or size % patch[1]:
                raise ValueError(f"not a multiple of its patches' {patch[0]} px")
            # Only a pass shows which sizes a network takes and how wide its embedding is.
            with torch.no_grad():
                width = body.eval()(torch.zeros(1, channels, size, size)).shape[1:].numel()
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise UsageError(
                f"--model timm:{self.architecture}: cannot take images of {size} px with {channels} "
                f"channel{'s' if channels > 1 else ''} ({reason}); try --image-size {self.trained_size}"
            ) from error
        self.body = body.train()
        self.num_features = width
        self.head = nn.Linear(width, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """timm's pooled embedding, as its own classifier would read it, (B, D)."""
        return self.body(images)

    def own_name(self, name: str) -> str:
        """timm's names stand below `body`, its classifier is the head."""
        for classifier in self.classifiers:
            if name.startswith(f"{classifier}."):
                return f"head.{name.removeprefix(f'{classifier}.')}"
        return f"body.{name}"


@cache
def timm_network(architecture: str) -> type[TimmNetwork]:
    """The class of timm's networks of one architecture.

    Args:
        architecture: as timm calls it, perhaps with the tag of its weights (`resnet50.a1_in1k`), which says how they
            want their images.

    Raises:
        UsageError: timm is not installed, or knows no such network.
    """
    timm = _timm()
    try:
        config = timm.get_pretrained_cfg(architecture) if timm.is_model(architecture) else None
    except RuntimeError:  # a tag that the architecture does not have
        config = None
    if config is None:
        near = get_close_matches(architecture, timm.list_models(), n=1)
        advice = f"did you mean timm:{near[0]}?" if near else "its documentation lists them"
        raise UsageError(f"--model timm:{architecture}: timm {timm.__version__} has no such network; {advice}")
    classifier = config.classifier or ()
    side = config.input_size[-1]
    members = {
        "architecture": architecture,
        "classifiers": (classifier,) if isinstance(classifier, str) else tuple(classifier),
        "learning_rate": _FIXED_SIZE_RATE if config.fixed_input_size else _RATE,
        "own_size": side if config.fixed_input_size else None,
        "trained_size": side,
        "normalisation": Normalisation(tuple(config.mean), tuple(config.std)),
    }
    return type("TimmNetwork", (TimmNetwork,), members)


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise UsageError(
            'this --model needs timm, which is not installed: pip install "winnow-images[timm]"'
        ) from error
    return timm
