"""`winnow diagnose`."""

from __future__ import annotations

import json
import shlex
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from winnow.cli import options
from winnow.cli.completion import data_names

_WIDTH = 80
_LABEL = 13
_ISOLATES = {0x2068: None, 0x2069: None}
"""Marks around names, for pages; a terminal shows them as boxes."""


def diagnose(
    data: Annotated[str, typer.Argument(help="Folder, table, .npz or built-in name.", autocompletion=data_names)],
    out: Annotated[Path | None, typer.Option(help="Folder for summary.json and report.html.")] = None,
    label_column: options.LabelColumn = None,
    clean_label_column: Annotated[
        str | None, typer.Option(help="True labels, of 30 images at least: noise is then counted, not estimated.")
    ] = None,
    image_column: options.ImageColumn = None,
    map_labels: options.MapLabels = None,
    on_duplicate: options.OnDuplicate = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    force: options.Force = False,
    root: options.Root = None,
    download: options.Download = False,
    max_pixels: options.MaxPixels = 50_000_000,
    allow_truncated: options.AllowTruncated = False,
    follow_links: options.FollowLinks = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    debug: options.Debug = False,
) -> None:
    """What wrong labels do to a collection: accuracy, features, samples, frequencies."""
    from winnow import __version__
    from winnow.audit.diagnose import diagnose as diagnosed
    from winnow.cli.terminal import TerminalProgress, bold, next_step
    from winnow.data.open import open_source
    from winnow.errors import InputError
    from winnow.files import atomic_write
    from winnow.report.diagnose import write_diagnose_report
    from winnow.report.diagnose_words import LIMITS, headline, lead, sentences

    if out is not None and out.exists() and not force and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already: name another --out, or replace what it holds with --force")
    source = open_source(
        data,
        label_column=label_column,
        clean_label_column=clean_label_column,
        image_column=image_column,
        map_labels=map_labels,
        on_duplicate=on_duplicate,
        limit=limit,
        download=download,
        root=root,
        max_pixels=max_pixels,
        allow_truncated=allow_truncated,
        follow_links=follow_links,
    )
    progress = TerminalProgress(quiet or json_output)
    found = diagnosed(source, count_truth=clean_label_column is not None, seed=seed, progress=progress.stage)
    progress.finish()
    command = f"winnow audit {shlex.quote(data)} --out audit"
    summary = {
        "schema_version": 1,
        "command": "diagnose",
        "version": __version__,
        "data": source.address,
        "unlabelled": int(source.unlabelled.sum()),
        "next": command,
        **found.record(),
    }
    summary["sentences"] = [
        headline(summary),
        lead(summary),
        *(s for told in sentences(summary).values() for s in told),
    ]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        atomic_write(out / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
        write_diagnose_report(out, summary)
    if json_output:
        print(json.dumps(summary))
        return
    if quiet:
        return
    classes = f"{len(source.class_names):,} class{'es' if len(source.class_names) != 1 else ''}"
    print(f"Data     {summary['num_images']:,} labelled images, {classes}")
    print(bold(_wrapped(f"{headline(summary)}.")))
    print(_wrapped(lead(summary)))
    for name, told in sentences(summary).items():
        print(_wrapped(" ".join(told), name))
    print(_wrapped(LIMITS[0]))
    if out is not None:
        print(f"Report   {out / 'report.html'}")
    print(next_step(command))


def _wrapped(text: str, label: str = "") -> str:
    """Sentences at 80 columns, a label before the first line and room for it before the others."""
    from winnow.cli.terminal import shown

    # Unbreakable spaces stay until lines are broken.
    indent = " " * (_LABEL if label else 0)
    lines = textwrap.wrap(
        text.translate(_ISOLATES),
        _WIDTH,
        initial_indent=label.ljust(len(indent)),
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
    return "\n".join(shown(each) for each in lines)
