"""Options that several commands share, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from winnow.errors import InputError, UsageError

if TYPE_CHECKING:
    from winnow.data.source import Source
    from winnow.train.fit import Settings

LabelColumn = Annotated[str | None, typer.Option(help="Column of the labels; by default found by name.")]
ImageColumn = Annotated[str | None, typer.Option(help="Column of image paths or bytes; by default found.")]
Limit = Annotated[int | None, typer.Option(help="A random subset of N images, the same for every seed.")]
Root = Annotated[Path | None, typer.Option(help="Folder of built-in data; by default WINNOW_DATA.")]
Seed = Annotated[int, typer.Option(help="Every random decision is a function of it.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what --out holds.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error came from.")]
MaxPixels = Annotated[int, typer.Option(help="Larger pictures are set aside.")]
AllowTruncated = Annotated[bool, typer.Option("--allow-truncated", help="Use what is there of cut-off pictures.")]
FollowLinks = Annotated[bool, typer.Option("--follow-links", help="Let links lead out of a folder.")]


def parsed_settings(texts: Sequence[str]) -> dict[str, str]:
    """`["beta=0.9"]` as a dictionary; types are checked against the method's signature later."""
    result = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise UsageError(f"--set {text}: must be NAME=VALUE")
        result[name.strip().replace("-", "_")] = value.strip()
    return result


def stem(data: str) -> str:
    """A name for files made from DATA."""
    return Path(data).stem.replace(":", "-") or "data"


def open_with_test(data: str, settings: dict[str, Any]) -> tuple[Source, Source | None]:
    """DATA and the test set that belongs to it, if one was named."""
    from winnow.data.open import open_source, open_test

    reading = {key: settings[key] for key in ("root", "max_pixels", "allow_truncated", "follow_links", "image_column")}
    source = open_source(
        data,
        label_column=settings["label_column"],
        clean_label_column=settings["clean_label_column"],
        limit=settings["limit"],
        **reading,
    )
    if settings["test"] is None:
        return source, None
    return source, open_test(settings["test"], source, label_column=settings["test_label_column"], **reading)


def refuse_beside_record(context: typer.Context, run: str) -> None:
    """`--resume RUN` takes every setting from the run's own record, so none may be given beside it."""
    kept = {"data", "resume", "quiet", "json_output", "debug"}
    given = [
        name
        for name in context.params
        if name not in kept and getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    ]
    if given:
        options = ", ".join("--set" if name == "settings" else f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(f"--resume {run} takes its settings from the run's own record: leave {options} away")


def as_recorded(run: Path) -> tuple[str, dict[str, Any], Settings]:
    """DATA and settings of a run folder, for going on with it."""
    import tomllib

    from winnow.train.fit import Settings

    try:
        config = tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))
        data = dict(config["data"])
        address = data.pop("address")
        names = (
            "label_column",
            "clean_label_column",
            "image_column",
            "limit",
            "root",
            "test",
            "test_label_column",
        )
        recorded = {name: data.get(name) for name in names}
        recorded |= {name: data[name] for name in ("max_pixels", "allow_truncated", "follow_links")}
        if config["schema_version"] != 1:
            raise InputError(f"{run / 'config.toml'}: written by another version of winnow")
        chosen = Settings(**config["train"], hyperparameters=config["hyperparameters"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run / 'config.toml'}: not a complete record of a run: {error}") from error
    return address, recorded, chosen
