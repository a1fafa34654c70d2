"""`winnow bench`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from winnow.cli import options


def bench(
    grid: Annotated[
        str | None, typer.Argument(help="A .toml file, or the name of a grid that comes along; or use --data.")
    ] = None,
    data: Annotated[list[str] | None, typer.Option(help="DATA; repeatable. Takes the place of a grid's.")] = None,
    test: Annotated[str | None, typer.Option(help="Images with true labels, of --data.")] = None,
    noise: Annotated[
        list[str] | None,
        typer.Option(help="KIND:RATE,RATE or KIND:RATE:MAP, or none; repeatable. By default none."),
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="'NAME' or 'NAME option=value'; repeatable. By default winnow.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of seeds, from 0. By default 3, or the grid's.")] = None,
    size: Annotated[str, typer.Option(help="Of the grid: cpu, or another that it knows, such as gpu.")] = "cpu",
    out: options.ResultsFolder = None,
    budget: Annotated[float | None, typer.Option(help="Minutes; the same command goes on later.")] = None,
    workers: options.Workers = None,
    limit: options.Limit = None,
    model: Annotated[str | None, typer.Option(help="As for `winnow train`.")] = None,
    epochs: Annotated[int | None, typer.Option(help="As for `winnow train`.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="As for `winnow train`.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="As for `winnow train`.")] = None,
    label_column: options.LabelColumn = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, ...")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, bf16 or float32.")] = None,
    root: options.Root = None,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    debug: options.Debug = False,
) -> None:
    """Compare methods fairly: data x noise x method x seed."""
    from winnow.bench import command
    from winnow.cli.bench_progress import BenchProgress
    from winnow.cli.terminal import bold, next_step, plain
    from winnow.errors import UsageError, WinnowError

    if grid is None and not data:
        raise UsageError(f"name a grid or --data; grids that come along: {', '.join(command.shipped())}")
    training: dict[str, Any] = {
        "model": model,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "device": device,
        "precision": precision,
    }
    reading = {"test": test, "limit": limit, "label_column": label_column}
    wanted = command.wanted_grid(
        grid,
        data=data or [],
        noise=noise or [],
        methods=method or [],
        seeds=seeds,
        size=size,
        training={name: value for name, value in training.items() if value is not None},
        reading={name: value for name, value in reading.items() if value is not None},
    )
    with BenchProgress(quiet or json_output) as progress:
        found = command.run_grid(
            wanted,
            out or Path("runs") / "bench" / wanted.name,
            root=root,
            workers=workers,
            budget_minutes=budget,
            progress=progress,
        )
    if json_output:
        print(json.dumps(found.summary()))
    else:
        print(bold(found.sentence))
        for line in found.lines():
            print(plain(line))
        print(f"Table    {found.csv}")
        print(f"Report   {found.report}")
        if found.left:
            print(next_step("the same command", f"for the {found.left} cells that are left"))
        else:
            print(next_step("winnow methods", "what each method is and assumes"))
    if found.failed:
        raise WinnowError(found.failure)
