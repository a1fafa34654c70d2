"""Telling what noise was made: a sentence, lines for the terminal, one object for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from winnow.data.source import Source
from winnow.noise.channel import LabelNoise
from winnow.noise.write import noise_record

# Kinds whose exact counts are those of their matrix.
_COUNTED = ("symmetric", "pair", "tridiagonal", "asymmetric", "permutation", "superclass", "block5", "web")


def sentence(source: Source, noise: LabelNoise) -> str:
    """What came out, as a person reads it: the share of all labels, and what was asked for if it differs."""
    labelled = int((source.noisy_labels >= 0).sum())
    wrong = int(noise.flipped.sum())
    share = f"{100 * wrong / max(1, labelled):.1f} %"
    whole = f"{share} of all labels are now wrong ({wrong:,} of {labelled:,})"
    asked = f"{100 * noise.rate:.6g} %"
    if noise.foreign is not None:
        count = int(noise.foreign.sum())
        foreign = f"{100 * count / max(1, labelled):.1f} % of the images are now foreign ({count:,} of {labelled:,})"
        return f"{foreign}; {whole}." if noise.generator == "web" else f"{foreign}; all keep their labels."
    if noise.generator in ("asymmetric", "superclass") and noise.mapping and len(noise.mapping) < source.num_classes:
        return f"{asked} of the labels in {len(noise.mapping)} of {source.num_classes} classes: {whole}."
    if noise.convention.startswith("symmetric inclusive"):
        return f"{asked} of the labels drawn anew, some of which stay the same: {whole}."
    if noise.generator == "ambiguity":
        under = f"{100 * noise.realised_rates['ambiguous_classes']:.1f} %"
        return f"{under} of the images under the ambiguous names are of another class: {whole}."
    if noise.generator == "annotators":
        each = ", ".join(f"{100 * rate:.1f}" for rate in noise.realised_rates.values())
        return f"The annotators are wrong in {each} % of the labels; by their majority {whole}."
    return f"{whole}."


def rounding(source: Source, noise: LabelNoise) -> str | None:
    """A warning where whole images a class cannot give the share that was asked for: few classes have one image."""
    if noise.generator not in _COUNTED or noise.draw != "exact" or noise.transition_matrix is None:
        return None
    kept = source.noisy_labels >= 0
    if noise.foreign is not None:
        kept &= ~noise.foreign  # the matrix is that of the other images
    if not kept.any():
        return None
    wanted = float(1 - noise.transition_matrix.diagonal()[source.noisy_labels[kept]].mean())
    found = float(noise.flipped[kept].mean())
    if abs(found - wanted) <= 0.1 * wanted:
        return None
    return (
        f"{100 * wanted:.1f} % of the labels should be wrong, {100 * found:.1f} % are: counts are "
        "rounded in every class, and the classes are small; --draw expected draws each label by itself"
    )


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
        "num_foreign": int(noise.foreign.sum()) if noise.foreign is not None else 0,
        "class_names": list(source.class_names),
        "transition_matrix": noise.transition_matrix.tolist() if noise.transition_matrix is not None else None,
        **noise_record(source, noise),
    }
