"""`winnow audit`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from winnow.cli import options
from winnow.cli.completion import data_names


def audit(
    context: typer.Context,
    data: Annotated[
        str,
        typer.Argument(help="Folder, table, .npz or built-in name; or a run folder.", autocompletion=data_names),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder of the audit; by default a new one under audits/.")] = None,
    test: Annotated[str | None, typer.Option(help="Test images: copies of them in DATA are found.")] = None,
    test_label_column: Annotated[str | None, typer.Option(help="Labels of --test.")] = None,
    label_column: options.LabelColumn = None,
    clean_label_column: Annotated[
        str | None, typer.Option(help="True labels, where known: the audit is then measured against them.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Folder of an earlier audit, whose classes and images DATA is compared with.")
    ] = None,
    annotators: Annotated[
        str | None, typer.Option(help="Columns of several people's labels, as 'anna,ben': their consensus is audited.")
    ] = None,
    label_separator: options.LabelSeparator = None,
    image_column: options.ImageColumn = None,
    verified: options.Verified = None,
    unlabelled: options.Unlabelled = None,
    map_labels: options.MapLabels = None,
    on_duplicate: options.OnDuplicate = None,
    limit: options.Limit = None,
    weights: Annotated[
        Path | None, typer.Option(help="Features from a .safetensors, .pt, .pth or .bin file, with --model.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A network of docs/models.md, or timm:NAME.")] = None,
    budget: Annotated[float, typer.Option(help="Minutes to train a network for features, at most.")] = 5.0,
    blind: Annotated[int, typer.Option(help="Draw N images that are not flagged, to be checked by a person.")] = 0,
    fail_on: Annotated[
        list[str] | None, typer.Option(help="Exit with 3 if there is such a finding, or any; repeatable.")
    ] = None,
    seed: options.Seed = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads; by default half of the cores.")] = None,
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
    """Find wrong labels, outliers, copies and broken files."""
    from winnow.api import audit_opened
    from winnow.audit.findings import KINDS
    from winnow.audit.folder import AuditFolder, opened_again
    from winnow.audit.settings import AuditSettings
    from winnow.cli.terminal import TerminalProgress, bold, next_step, plain
    from winnow.errors import UsageError
    from winnow.report import audit_words, words
    from winnow.report.folder import read_findings
    from winnow.train.run_folder import RunFolder

    for kind in fail_on or []:
        if kind not in (*KINDS, "any"):
            raise UsageError(f"--fail-on {kind}: must be any or one of {', '.join(KINDS)}")
    settings = AuditSettings(
        weights=str(weights) if weights else None,
        model=model,
        budget_minutes=budget,
        seed=seed,
        device=device,
        threads=threads,
        blind=blind,
    )
    progress = TerminalProgress(quiet)
    run = Path(data) if RunFolder.is_there(Path(data)) else None
    reading = options.data_settings(context.params)
    if run is not None:
        data, reading, _ = options.as_recorded(run)
    known = opened_again(against) if against is not None else None
    names_of_classes = known.class_names if known is not None else None
    source, test_source = options.open_with_test(
        data, reading, progress.fetching, unlabelled_ok=True, class_names=names_of_classes
    )
    names = annotators.split(",") if annotators else []
    found = audit_opened(
        source,
        settings,
        out or AuditFolder.next_free(Path("audits"), options.stem(data)),
        test=test_source,
        run=run,
        known=known,
        annotators=names,
        verified=verified,
        force=force,
        progress=progress,
        command=shlex.join(["winnow", *sys.argv[1:]]),
        data_settings=reading | {"annotators": annotators, "unlabelled_ok": True},
    )
    progress.finish()
    summary = found.summary
    if json_output:
        print(json.dumps(summary))
    elif not quiet:
        worst = audit_words.examples(read_findings(found.folder), source.class_names)
        lines = audit_words.terminal_lines(summary, worst)
        table = next((place for place, line in enumerate(lines) if line.startswith("  ")), len(lines))
        for place, line in enumerate(lines):
            print(bold(line) if place < table and line != audit_words.UNSEEN else plain(line))
        if summary.get("wrong_label_precision") is not None:
            right, share = (words.percent(summary[f"wrong_label_{name}"]) for name in ("precision", "recall"))
            print(
                plain(
                    f"Measured against the truth: {right} of the flagged are wrong, {share} of the wrong are flagged."
                )
            )
        print(f"Report   {found.folder / 'report.html'}")
        following = audit_words.next_step(summary, found.folder)
        print(next_step(following.command))
    failing = [kind for kind in fail_on or [] if summary["counts"].get(kind) or (kind == "any" and summary["counts"])]
    if failing:
        raise typer.Exit(3)
