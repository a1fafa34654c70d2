"""`winnow noise`: labels made wrong on purpose, in a file that trains as it is."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from winnow.cli import options
from winnow.cli.completion import data_names
from winnow.noise.taxonomy import KINDS, listed


class Convention(StrEnum):
    """Of what the rate of symmetric noise is a share."""

    exclusive = "exclusive"
    inclusive = "inclusive"


class Draw(StrEnum):
    """Whether counts are exact or each label is drawn by itself."""

    exact = "exact"
    expected = "expected"


def noise(
    data: Annotated[str, typer.Argument(help="Folder, table, .npz or built-in name.", autocompletion=data_names)],
    rate: Annotated[float, typer.Option(help="Share to make wrong, 0 to 1; of what, depends on the kind.")],
    out: Annotated[Path, typer.Option(help="The file to write: .parquet, .csv (image files) or .npz (arrays).")],
    kind: Annotated[
        str,
        typer.Option(
            help=f"Which labels are wrong. {listed()}.",
            autocompletion=lambda incomplete: [name for name in KINDS if name.startswith(incomplete)],
        ),
    ] = "symmetric",
    class_map: Annotated[
        str | None,
        typer.Option(
            "--map",
            help="Asymmetric: mnist, fashion-mnist, cifar10, confusable or 'cat:dog,dog:cat'; permutation: mnist or "
            "'1,2,0'; ambiguity: 'cat:dog' (cats named dog); superclass, web: cifar100 or 'cat|dog,car|truck'.",
        ),
    ] = None,
    convention: Annotated[
        Convention, typer.Option(help="Symmetric: may the new label be the old one (inclusive)?")
    ] = Convention.exclusive,
    donor: Annotated[
        str | None,
        typer.Option(help="Open-set, web: where foreign images come from: DATA, uniform, gaussian or blurred."),
    ] = None,
    foreign_rate: Annotated[
        float | None, typer.Option(help="Web: share of foreign images; --rate is that of wrong labels.")
    ] = None,
    annotators: Annotated[int | None, typer.Option(help="Annotators: how many; by default 3.")] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Instance: make --rate the mean, not the centre, of the flip rates.")
    ] = False,
    temperature: Annotated[
        float | None, typer.Option(help="Instance: spread the wrong labels; 1 is wide, none one class an image.")
    ] = None,
    draw: Annotated[
        Draw | None, typer.Option(help="Exact counts, or each label by itself; by default exact where possible.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the noise; the same seed gives the same labels.")] = 0,
    label_column: Annotated[str | None, typer.Option(help="Column of the right labels.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Column of pictures or paths.")] = None,
    root: Annotated[Path | None, typer.Option(help="Where built-in collections lie (else WINNOW_DATA).")] = None,
    limit: Annotated[int | None, typer.Option(help="Use a random subset, the same every time.")] = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help="Let links lead out of a folder.")] = False,
    map_labels: options.MapLabels = None,
    on_duplicate: options.OnDuplicate = None,
    download: options.Download = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")] = False,
    max_pixels: options.MaxPixels = 50_000_000,
    allow_truncated: options.AllowTruncated = False,
    config: options.Config = None,
    debug: options.Debug = False,
) -> None:
    """Make labels wrong on purpose, in a file that trains."""
    from winnow.cli.terminal import TerminalProgress, warn_of_formulas
    from winnow.data.open import open_source
    from winnow.errors import InputError
    from winnow.noise.donors import MADE
    from winnow.noise.kinds import make_noise
    from winnow.noise.summary import lines, rounding, summary
    from winnow.noise.write import check_output, write_noisy

    if out.exists() and not force:
        raise InputError(f"{out}: exists already; choose another --out or replace it with --force")
    open_data = partial(
        open_source,
        root=root,
        download=download,
        follow_links=follow_links,
        max_pixels=max_pixels,
        allow_truncated=allow_truncated,
    )
    source = open_data(
        data,
        label_column=label_column,
        image_column=image_column,
        map_labels=map_labels,
        on_duplicate=on_duplicate,
        limit=limit,
    )
    for read in (data, donor):
        if read and out.exists() and Path(read).exists() and out.samefile(read):
            raise InputError(f"{out}: is read as well, and a source is never changed; choose another --out")
    check_output(source, out)
    donors = open_data(donor, unlabelled_ok=True) if donor and donor not in MADE else donor
    progress = TerminalProgress(quiet or as_json)
    made = make_noise(
        source,
        kind,
        rate,
        class_map=class_map,
        inclusive=convention is Convention.inclusive,
        donor=donors,
        foreign_rate=foreign_rate,
        annotators=annotators,
        calibrate=calibrate,
        temperature=temperature,
        draw=draw.value if draw else None,
        seed=seed,
        progress=lambda done, total: progress.stage("reading", done, total),
    )
    progress.finish()
    if (rounded := rounding(source, made)) is not None:
        progress.warning(rounded)
    write_noisy(source, made, out)
    warn_of_formulas(out)
    if as_json:
        typer.echo(json.dumps(summary(source, made, out)))
    elif not quiet:
        for line in lines(source, made, out, root=root):
            typer.echo(_wrapped(line))


def _wrapped(line: str) -> str:
    """A sentence broken at words in a terminal; what a person may paste, and what programs read, stays whole."""
    if not sys.stdout.isatty() or line.startswith(("File", "Next")):
        return line
    label = " " * 9 if line.startswith(("Data", "Noise", " ")) else ""
    return textwrap.fill(line, shutil.get_terminal_size((80, 24)).columns, subsequent_indent=label)
