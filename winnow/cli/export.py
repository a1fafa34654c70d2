"""`winnow export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from winnow.cli import options

_FORMATS = ("folder", "csv", "parquet", "hugging-face", "coco", "cleanlab", "fiftyone", "label-studio")


def export(
    folder: Annotated[Path, typer.Argument(help="Folder of an audit or of a finished run.")],
    to: Annotated[
        str,
        typer.Option(
            help=f"One of {', '.join(_FORMATS)}.",
            autocompletion=lambda incomplete: [name for name in _FORMATS if name.startswith(incomplete)],
        ),
    ],
    out: Annotated[Path, typer.Option(help="File or folder to write; an existing one is refused.")],
    apply_suggestions: Annotated[
        bool, typer.Option("--apply-suggestions", help="Labels that look wrong give way to the suggested ones.")
    ] = False,
    keep_flagged: Annotated[
        bool, typer.Option("--keep-flagged", help="Images whose label looks wrong stay, with that label.")
    ] = False,
    keep_outliers: Annotated[bool, typer.Option("--keep-outliers", help="Images that fit no class stay.")] = False,
    keep_duplicates: Annotated[bool, typer.Option("--keep-duplicates", help="Exact copies stay.")] = False,
    link: Annotated[bool, typer.Option("--link", help="Links to the image files instead of copies.")] = False,
    force: options.Force = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    debug: options.Debug = False,
) -> None:
    """The cleaned collection, in a form of your choice."""
    from winnow.cli.terminal import TerminalProgress, bold, next_step, plain, shown
    from winnow.export.fates import FATES, Rule
    from winnow.export.run import export as run_export
    from winnow.report.words import count, counted

    rule = Rule(apply_suggestions, keep_flagged, keep_outliers, keep_duplicates)
    progress = TerminalProgress(quiet or json_output)
    try:
        summary = run_export(folder, to, out, rule, link=link, force=force, progress=progress)
    finally:
        progress.finish()
    if json_output:
        print(json.dumps(summary))
        return
    if quiet:
        return
    exported, total = summary["exported"], summary["num_images"]
    print(bold(f"{count(exported)} of {counted(total, 'image')} exported to {out} ({to})."))
    for fate, number in summary["fates"].items():
        print(plain(f"  {fate:<22}{count(number):>10}  {FATES[fate]}"))
    for note in summary["notes"]:
        print(shown(note))
    print(f"Fates    {shown(summary['fates_file'])}")
    if to in ("folder", "parquet", "hugging-face"):
        print(next_step(f"winnow train {out}{' --follow-links' if link else ''}"))
