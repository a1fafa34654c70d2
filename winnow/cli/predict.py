"""`winnow predict`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from winnow.cli import options
from winnow.cli.completion import data_names


def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    data: Annotated[
        str,
        typer.Argument(help="Folder, table, .npz or built-in name; labels are not needed.", autocompletion=data_names),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Parquet or .csv file; by default RUN/predictions.parquet, replaced.")
    ] = None,
    label_column: options.LabelColumn = None,
    label_separator: options.LabelSeparator = None,
    image_column: options.ImageColumn = None,
    map_labels: options.MapLabels = None,
    on_duplicate: options.OnDuplicate = None,
    limit: options.Limit = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, bf16 or float32.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads; by default half of the cores.")] = None,
    force: options.Force = False,
    root: options.Root = None,
    download: options.Download = False,
    max_pixels: options.MaxPixels = 50_000_000,
    allow_truncated: options.AllowTruncated = False,
    follow_links: options.FollowLinks = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    config: options.Config = None,
    debug: options.Debug = False,
) -> None:
    """Classes of images, from a trained model."""
    from winnow.cli.terminal import bold, plain, shown, warn_of_formulas
    from winnow.data.folder import printable
    from winnow.data.open import open_source
    from winnow.errors import InputError, UsageError
    from winnow.report.words import counted, percent
    from winnow.train.device import Device
    from winnow.train.predictions import write_predictions
    from winnow.train.predictor import Predictor

    predictor = Predictor.load(run)
    target = out or run / "predictions.parquet"
    if target.suffix not in (".parquet", ".csv"):
        raise UsageError(f"--out {target}: must end in .parquet or .csv")
    if target.exists() and out is not None and not force:
        raise InputError(f"{target} is there already: name another --out, or replace it with --force")
    source = open_source(
        data,
        label_column=label_column,
        label_separator=label_separator,
        image_column=image_column,
        map_labels=map_labels,
        on_duplicate=on_duplicate,
        limit=limit,
        download=download,
        root=root,
        max_pixels=max_pixels,
        allow_truncated=allow_truncated,
        follow_links=follow_links,
        unlabelled_ok=True,
    )
    found = predictor.predict(source, Device.choose(device, precision, threads))
    write_predictions(target, source, found, predictor.class_names)
    warn_of_formulas(target)
    agreement = found.agreement(source, predictor.class_names)
    summary = {
        "run": str(run),
        "data": source.address,
        "out": str(target),
        "num_images": len(source),
        "quarantined": len(found.quarantined),
        "label_agreement": agreement,
    }
    if json_output:
        print(json.dumps(summary))
        return
    tail = "" if agreement is None else f"; {percent(agreement)} agree with the labels there"
    if quiet:
        return
    print(bold(f"{counted(len(found.rows), 'image')} classified{tail}."))
    if found.quarantined:
        print(plain(f"No prediction for {counted(len(found.quarantined), 'unreadable image')}; the file says why."))
        for item in found.quarantined if verbose else ():
            print(shown(f"  {printable(item.id)}: {item.code}: {printable(item.reason)}"))
    print(f"File     {target}")
