"""Telling what noise was made: a sentence, lines for the terminal, one object for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from winnow.data.source import Source
from winnow.noise.inject import LabelNoise
from winnow.noise.write import noise_record


def sentence(source: Source, noise: LabelNoise) -> str:
    """What came out, as a person reads it: the share of all labels, and what was asked for if it differs."""
    labelled = int((source.noisy_labels >= 0).sum())
    wrong = int(noise.flipped.sum())
    whole = f"{100 * noise.realised_rate:.1f} % of all labels are now wrong ({wrong:,} of {labelled:,})"
    asked = f"{100 * noise.rate:.6g} %"
    if noise.generator == "asymmetric" and noise.mapping:
        sources = len(noise.mapping)
        return f"{asked} of the labels in {sources} of {source.num_classes} classes: {whole}."
    if noise.convention.startswith("symmetric inclusive"):
        return f"{asked} of the labels drawn anew, some of which stay the same: {whole}."
    return f"{whole}."


def lines(source: Source, noise: LabelNoise, out: Path, *, root: Path | None = None) -> list[str]:
    """What `winnow noise` prints."""
    target = f"{out} --root {root}" if root is not None and source.test_address else str(out)
    return [
        f"Data     {len(source):,} images, {source.num_classes} classes from {source.address}",
        *(f"         {note}" for note in source.notes),
        f"Noise    {noise.convention}, seed {noise.seed}",
        sentence(source, noise),
        f"File     {out}",
        f"Next     winnow train {target}",
    ]


def summary(source: Source, noise: LabelNoise, out: Path) -> dict[str, Any]:
    """The JSON object of `winnow noise`."""
    return {
        "file": str(out),
        "num_images": len(source),
        "num_classes": source.num_classes,
        "num_flipped": int(noise.flipped.sum()),
        "class_names": list(source.class_names),
        "transition_matrix": noise.transition_matrix.tolist(),
        **noise_record(source, noise),
    }
