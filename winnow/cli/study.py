"""`winnow study`: questions about labels that a grid of trainings answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from winnow.cli import options
from winnow.cli.config import ConfiguredCommand

if TYPE_CHECKING:
    from winnow.bench.study import Study

study = typer.Typer(
    name="study",
    help="Answer a question about labels by a grid of trainings.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_Budget = Annotated[float | None, typer.Option(help="Minutes; 0 tells what is there.")]
_BatchSize = Annotated[int, typer.Option(help="Images a step.")]
_LearningRate = Annotated[float, typer.Option(help="Of SGD with momentum 0.9, before the schedule.")]
_WeightDecay = Annotated[float, typer.Option(help="Of all weights.")]
_Device = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
_Precision = Annotated[str, typer.Option(help="float32, bf16 or auto.")]
_TestLabelColumn = Annotated[str | None, typer.Option(help="Column of the test labels.")]


@study.callback()
def _study() -> None:
    """Answer a question about labels by a grid of trainings."""


@study.command(cls=ConfiguredCommand)
def mislabel(
    data: Annotated[str, typer.Option(help="DATA whose labels are taken for the truth.")],
    test: Annotated[str | None, typer.Option(help="Clean test images; by default DATA's own, else a fifth.")] = None,
    sizes: Annotated[str | None, typer.Option(help="Numbers of training images, such as 80,300,1200.")] = None,
    rates: Annotated[str | None, typer.Option(help="Shares of wrong labels; by default 0 to 0.5 by tenths.")] = None,
    kinds: Annotated[
        str | None, typer.Option(help="unbiased,biased (the default), or kinds of `winnow noise`.")
    ] = None,
    class_map: Annotated[
        str | None,
        typer.Option("--map", help="Biased: 'cat:dog,dog:cat', or a name; by default each class for the next."),
    ] = None,
    method: Annotated[list[str] | None, typer.Option(help="Repeatable. By default cross-entropy.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="A network; repeatable.")] = None,
    schedule: Annotated[
        list[str] | None, typer.Option(help="steps (the same computing for every size) or epochs; repeatable.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Of each training, for --schedule steps.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of each training, for --schedule epochs.")] = None,
    repeats: Annotated[int, typer.Option(help="Subsets, wrong labels and networks of every condition.")] = 5,
    out: options.ResultsFolder = None,
    budget: _Budget = None,
    workers: options.Workers = None,
    batch_size: _BatchSize = 64,
    learning_rate: _LearningRate = 0.1,
    weight_decay: _WeightDecay = 0.0,
    seed: options.Seed = 0,
    device: _Device = "cpu",
    precision: _Precision = "float32",
    label_column: options.LabelColumn = None,
    test_label_column: _TestLabelColumn = None,
    image_column: options.ImageColumn = None,
    limit: options.Limit = None,
    root: options.Root = None,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    debug: options.Debug = False,
) -> None:
    """What does a wrong label cost? Are more labels or better ones worth more?"""
    from winnow.bench.mislabel_command import run_mislabel
    from winnow.bench.mislabel_words import table_lines
    from winnow.cli.bench_progress import BenchProgress

    lengths = {"steps": steps, "epochs": epochs}
    wanted = schedule or [name for name, length in lengths.items() if length is not None] or ["steps"]
    opening = {
        "data": data,
        "test": test,
        "label_column": label_column,
        "test_label_column": test_label_column,
        "image_column": image_column,
        "limit": limit,
    }
    with BenchProgress(quiet or json_output) as progress:
        found = run_mislabel(
            {name: value for name, value in opening.items() if value is not None},
            out or Path("runs") / f"mislabel-{options.stem(data)}",
            root=root,
            workers=workers,
            budget_minutes=budget,
            progress=progress,
            sizes=_numbers("sizes", sizes, int),
            rates=_numbers("rates", rates, float),
            kinds=[kind.strip() for kind in kinds.split(",")] if kinds else None,
            class_map=class_map,
            methods=method,
            models=model,
            schedules=[(name, lengths.get(name)) for name in wanted],
            repeats=repeats,
            seed=seed,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            device=device,
            precision=precision,
        )
    answer = found.summary["answer"]
    sentence = f"{answer['sentence']}." if answer else "Too few trainings are finished for an answer."
    _tell(found, [sentence], table_lines(found.summary), json_output=json_output)


@study.command(cls=ConfiguredCommand)
def web(
    data: Annotated[str, typer.Argument(help="The crawl, as DATA: labels are the classes searched for.")],
    test: Annotated[str | None, typer.Option(help="Clean test images; by default DATA's own.")] = None,
    rank_column: Annotated[str | None, typer.Option(help="Column of the place in the results, for caps.")] = None,
    clean_label_column: Annotated[
        str | None, typer.Option(help="Column of true or checked labels, empty where nobody looked.")
    ] = None,
    foreign_column: Annotated[
        str | None, typer.Option(help="Column that is true for images of no class; by default 'foreign'.")
    ] = None,
    annotate: Annotated[str | None, typer.Option(help="Images to ask annotators about, such as 100,300.")] = None,
    caps: Annotated[str | None, typer.Option(help="Images of a class at most, such as 100,800.")] = None,
    likeness: Annotated[
        float | None, typer.Option(help="What counts as a copy, in [0, 1]; by default calibrated.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="By default cross-entropy.")] = None,
    model: Annotated[str | None, typer.Option(help="A network.")] = None,
    steps: Annotated[int | None, typer.Option(help="Of each training.")] = None,
    repeats: Annotated[int, typer.Option(help="Networks and random choices of every part.")] = 5,
    out: options.ResultsFolder = None,
    budget: _Budget = None,
    workers: options.Workers = None,
    batch_size: _BatchSize = 64,
    learning_rate: _LearningRate = 0.1,
    weight_decay: _WeightDecay = 0.0,
    seed: options.Seed = 0,
    device: _Device = "cpu",
    precision: _Precision = "float32",
    label_column: options.LabelColumn = None,
    test_label_column: _TestLabelColumn = None,
    image_column: options.ImageColumn = None,
    limit: options.Limit = None,
    root: options.Root = None,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    debug: options.Debug = False,
) -> None:
    """What is a crawl of the web worth? What to remove, what to annotate?"""
    from winnow.bench.web_command import run_web
    from winnow.bench.web_words import table_lines
    from winnow.cli.bench_progress import BenchProgress

    opening = {
        "data": data,
        "test": test,
        "label_column": label_column,
        "clean_label_column": clean_label_column,
        "test_label_column": test_label_column,
        "image_column": image_column,
        "limit": limit,
    }
    with BenchProgress(quiet or json_output) as progress:
        found = run_web(
            {name: value for name, value in opening.items() if value is not None},
            out or Path("runs") / f"web-{options.stem(data)}",
            rank_column=rank_column,
            foreign_column=foreign_column,
            likeness=likeness,
            root=root,
            workers=workers,
            budget_minutes=budget,
            progress=progress,
            budgets=_numbers("annotate", annotate, int),
            caps=_numbers("caps", caps, int),
            method=method,
            model=model,
            steps=steps,
            repeats=repeats,
            seed=seed,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            device=device,
            precision=precision,
        )
    sentences = found.summary["sentences"] or ["No training is finished yet."]
    lines = [*table_lines(found.summary), f"Fates    {found.fates}"]
    _tell(found, sentences, lines, json_output=json_output)


def _tell(found: Study, sentences: Sequence[str], lines: Sequence[str], *, json_output: bool) -> None:
    """Prints what was found; an error where trainings failed."""
    from textwrap import wrap

    from winnow.bench.phrases import WIDTH
    from winnow.cli.terminal import bold, next_step
    from winnow.errors import WinnowError

    if json_output:
        print(json.dumps(found.summary))
    else:
        for sentence in sentences:
            for line in wrap(sentence, WIDTH):
                print(bold(line))
        for line in lines:
            print(line)
        print(f"Table    {found.csv}")
        print(f"Report   {found.report}")
        if found.outcome.left:
            print(next_step("the same command", f"for the {found.outcome.left:,} cells that are left"))
        else:
            print(next_step("winnow train FOLDER", "says which of your own labels look wrong"))
    if found.outcome.failed:
        raise WinnowError(found.failure)


def _numbers(name: str, text: str | None, kind: type[int] | type[float]) -> list[int] | list[float] | None:
    from winnow.errors import UsageError

    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--{name} {text}: must be numbers with commas between them") from None
