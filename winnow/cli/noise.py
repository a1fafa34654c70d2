"""`winnow noise`: labels made wrong on purpose, in a file that trains as it is."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from winnow.cli import options


class Kind(StrEnum):
    """Kinds of noise that can be asked for."""

    symmetric = "symmetric"
    pair = "pair"
    asymmetric = "asymmetric"
    permutation = "permutation"


class Convention(StrEnum):
    """Of what the rate of symmetric noise is a share."""

    exclusive = "exclusive"
    inclusive = "inclusive"


class Draw(StrEnum):
    """Whether counts are exact or each label is drawn by itself."""

    exact = "exact"
    expected = "expected"


def noise(
    data: Annotated[str, typer.Argument(help="Folder, table, .npz or built-in name.")],
    rate: Annotated[float, typer.Option(help="Share of labels to make wrong, 0 to 1.")],
    out: Annotated[Path, typer.Option(help="The file to write: .parquet, .csv (image files) or .npz (arrays).")],
    kind: Annotated[Kind, typer.Option(help="Which labels take the place of the right ones.")] = Kind.symmetric,
    class_map: Annotated[
        str | None,
        typer.Option(
            "--map",
            help="Asymmetric: mnist, fashion-mnist, cifar10 or 'cat:dog,dog:cat'; permutation: mnist.",
        ),
    ] = None,
    convention: Annotated[
        Convention, typer.Option(help="Symmetric: may the new label be the old one (inclusive)?")
    ] = Convention.exclusive,
    draw: Annotated[Draw, typer.Option(help="Exact counts per class, or each label by itself.")] = Draw.exact,
    seed: Annotated[int, typer.Option(help="Of the noise; the same seed gives the same labels.")] = 0,
    label_column: Annotated[str | None, typer.Option(help="Column of the right labels.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Column of pictures or paths.")] = None,
    root: Annotated[Path | None, typer.Option(help="Where built-in collections lie (else WINNOW_DATA).")] = None,
    limit: Annotated[int | None, typer.Option(help="Use a random subset, the same every time.")] = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help="Let links lead out of a folder.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")] = False,
    max_pixels: options.MaxPixels = 50_000_000,
    allow_truncated: options.AllowTruncated = False,
    debug: options.Debug = False,
) -> None:
    """Make labels wrong on purpose, in a file that trains."""
    from winnow.data.open import open_source
    from winnow.errors import InputError
    from winnow.noise.kinds import make_noise
    from winnow.noise.summary import lines, summary
    from winnow.noise.write import check_output, write_noisy

    if out.exists() and not force:
        raise InputError(f"{out}: exists already; choose another --out or replace it with --force")
    source = open_source(
        data,
        label_column=label_column,
        image_column=image_column,
        root=root,
        limit=limit,
        follow_links=follow_links,
        max_pixels=max_pixels,
        allow_truncated=allow_truncated,
    )
    check_output(source, out)
    made = make_noise(
        source,
        kind.value,
        rate,
        class_map=class_map,
        inclusive=convention is Convention.inclusive,
        draw=draw.value,
        seed=seed,
    )
    write_noisy(source, made, out)
    if as_json:
        typer.echo(json.dumps(summary(source, made, out)))
    elif not quiet:
        for line in lines(source, made, out, root=root):
            typer.echo(line)
