"""`winnow train`."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from winnow.cli import options
from winnow.cli.completion import data_names, method_names, model_names


def train(
    context: typer.Context,
    data: Annotated[
        str,
        typer.Argument(
            help="Folder, table, .npz or built-in name; with --resume also a run folder.", autocompletion=data_names
        ),
    ],
    method: Annotated[
        str | None,
        typer.Option(
            help="Name from `winnow methods`, or FILE.py:CLASS; by default winnow.", autocompletion=method_names
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; by default a new one under runs/.")] = None,
    test: Annotated[str | None, typer.Option(help="Images with true labels; a built-in brings its own.")] = None,
    test_label_column: Annotated[
        str | None, typer.Option(help="Labels of --test; by default the clean-label column if it has one.")
    ] = None,
    label_column: options.LabelColumn = None,
    clean_label_column: Annotated[
        str | None, typer.Option(help="True labels, where known: read by evaluation only, never by training.")
    ] = None,
    label_separator: options.LabelSeparator = None,
    image_column: options.ImageColumn = None,
    verified: options.Verified = None,
    unlabelled: options.Unlabelled = None,
    map_labels: options.MapLabels = None,
    on_duplicate: options.OnDuplicate = None,
    limit: options.Limit = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A network of docs/models.md, or timm:NAME; by default by size and device.",
            autocompletion=model_names,
        ),
    ] = None,
    weights: options.Weights = None,
    freeze: options.Freeze = False,
    image_size: options.ImageSize = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data; by default by its size.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step; by default 64 up to 20,000 images.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="By default the network's own.")] = None,
    validation: Annotated[float, typer.Option(help="Share held out (at most 1,000) to choose a best epoch on.")] = 0.05,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A hyperparameter of the method, as NAME=VALUE; repeatable."),
    ] = None,
    seed: options.Seed = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, bf16 or float32.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads; by default half of the cores.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Keep decoded images on disk; same result.")] = False,
    log: Annotated[
        str | None, typer.Option(help="tensorboard: curves in the run folder as well; metrics.jsonl is always there.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that is in --out (or DATA).")] = False,
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
    """Train on partly wrong labels; say which are doubted."""
    from winnow.cli.terminal import TerminalProgress, bold, next_step
    from winnow.errors import InputError, UsageError
    from winnow.report.run import write_run_report
    from winnow.report.words import counted, percent, stage_times
    from winnow.train.fit import Settings, fit
    from winnow.train.loggers import TensorBoard, summary_writer
    from winnow.train.run_folder import RunFolder
    from winnow.train.settings import default_method

    data_settings = options.data_settings(context.params)
    chosen = Settings(
        method=method,
        model=model,
        weights=str(weights) if weights else None,
        freeze=freeze,
        image_size=image_size,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        validation=validation,
        device=device,
        precision=precision,
        threads=threads,
        stream=stream,
        hyperparameters=options.parsed_settings(settings or []),
    )
    run_folder = Path(data)
    if resume and out is None:
        if not RunFolder.is_there(run_folder):
            raise InputError(f"{data} holds no run to go on with: name a run folder, or DATA and the run as --out")
        options.refuse_beside_record(context, data)
        out = run_folder
        data, data_settings, chosen = options.as_recorded(run_folder)
        chosen = replace(chosen, stream=stream)
    if log is not None:
        if log != "tensorboard":
            raise UsageError(f"--log must be tensorboard, got {log}")
        summary_writer()  # asked for now, so that what is missing is told before any work
    if resume and force:
        raise UsageError("--resume goes on with a run, --force throws it away: name one of them")
    progress = TerminalProgress(quiet, verbose)
    source, test_source = options.open_with_test(data, data_settings, progress.fetching)
    if out is None:
        name = chosen.method or default_method(source)
        stem = f"{options.stem(data)}-{Path(name.split(':')[-1]).name}-s{seed}"
        out = RunFolder.next_free(Path("runs"), stem)
    command = shlex.join(["winnow", *sys.argv[1:]])
    loggers = [TensorBoard(out / "tensorboard")] if log else []
    run = fit(
        source,
        chosen,
        out,
        test=test_source,
        resume=resume,
        force=force,
        progress=progress,
        loggers=loggers,
        command=command,
        data_settings=data_settings,
    )
    progress.finish()
    report = write_run_report(run.folder, source.pictures.read)
    summary = run.summary
    if json_output:
        print(json.dumps(summary))
        return
    accuracy = summary["test_accuracy_last"]
    num = summary["num_doubted"]
    doubted = f"{counted(num, 'label')} {'is' if num == 1 else 'are'} doubted."
    if accuracy is None:
        agreement = percent(summary["given_label_agreement"])
        print(bold(f"{doubted} No test set: agreement with the given labels is {agreement}."))
    else:
        print(bold(f"Test accuracy {percent(accuracy)} at the last epoch. {doubted}"))
    print(f"Time     {stage_times(summary['stage_seconds'])}")
    print(f"Report   {report}")
    print(next_step(f"winnow predict {run.folder} IMAGES", "classes for other images"))
