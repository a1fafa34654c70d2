"""Options that several commands share, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from winnow.errors import InputError, UsageError

if TYPE_CHECKING:
    from winnow.data.source import Source
    from winnow.train.fit import Settings

LabelColumn = Annotated[str | None, typer.Option(help="Column of the labels; by default found by name.")]
LabelSeparator = Annotated[str | None, typer.Option(help="Between several classes of an image, as in 'cat;dog'.")]
ImageColumn = Annotated[str | None, typer.Option(help="Column of image paths or bytes; by default found.")]
Limit = Annotated[int | None, typer.Option(help="A random subset of N images, the same for every seed.")]
Root = Annotated[Path | None, typer.Option(help="Folder of built-in data; by default WINNOW_DATA.")]
Weights = Annotated[Path | None, typer.Option(help="Start from a .safetensors, .pt, .pth or .bin file.")]
Freeze = Annotated[bool, typer.Option("--freeze", help="Train the head alone, on features of --weights.")]
ImageSize = Annotated[int | None, typer.Option(help="Scale images to N px; by default as they are, at most 64.")]
Seed = Annotated[int, typer.Option(help="Every random decision is a function of it.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what --out holds.")]
ResultsFolder = Annotated[Path | None, typer.Option(help="Folder; what is done there is not done again.")]
Workers = Annotated[
    int | None, typer.Option(help="Trainings at once, one thread each; by default one a core, on a GPU one.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
Config = Annotated[Path | None, typer.Option(help="File of options (TOML), such as RUN/config.toml.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="More of what happens, line by line.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error came from.")]
MaxPixels = Annotated[int, typer.Option(help="Larger pictures are set aside.")]
AllowTruncated = Annotated[bool, typer.Option("--allow-truncated", help="Use what is there of cut-off pictures.")]
FollowLinks = Annotated[bool, typer.Option("--follow-links", help="Let links lead out of a folder.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch what is missing of built-in data or hf:NAME.")]
MapLabels = Annotated[
    str | None, typer.Option(help="New names: 'old=new,old=new', or a .csv with the columns old and new.")
]
OnDuplicate = Annotated[
    str | None, typer.Option(help="An image named twice: first, or conflict (unlabelled if its labels differ).")
]
Verified = Annotated[
    str | None, typer.Option(help="Checked labels: a column of labels or of true and false, or a table with id, label.")
]
Unlabelled = Annotated[str | None, typer.Option(help="More images, whose labels are not read: DATA of any kind.")]

DATA_SETTINGS = (
    "label_column",
    "clean_label_column",
    "label_separator",
    "image_column",
    "verified",
    "unlabelled",
    "map_labels",
    "on_duplicate",
    "limit",
    "download",
    "root",
    "max_pixels",
    "allow_truncated",
    "follow_links",
    "test",
    "test_label_column",
)
"""How DATA and its test set are read: options of `winnow train`, in the order of the run's record."""
_OF_DATA_ALONE = ("label_column", "clean_label_column", "verified", "unlabelled", "limit")
_OF_TEST_ALONE = ("test", "test_label_column")
_ALWAYS_RECORDED = ("max_pixels", "allow_truncated", "follow_links")


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


def data_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """`DATA_SETTINGS` out of the parameters of `winnow train`, as the record keeps them."""
    from winnow.data.places import absolute

    found = {name: given[name] for name in DATA_SETTINGS}
    for name in ("verified", "unlabelled", "map_labels"):
        found[name] = absolute(found[name]) if found[name] else None
    found["root"] = str(found["root"]) if found["root"] else None
    return found


def open_with_test(
    data: str,
    settings: Mapping[str, Any],
    fetching: Callable[[str, int, int], None] | None = None,
    *,
    unlabelled_ok: bool = False,
    class_names: Sequence[str] | None = None,
) -> tuple[Source, Source | None]:
    """DATA and the test set that belongs to it, if one was named."""
    from winnow.data.open import open_source, open_test

    both = [name for name in DATA_SETTINGS if name not in (*_OF_DATA_ALONE, *_OF_TEST_ALONE)]
    reading = {name: settings[name] for name in both} | {"progress": fetching}
    alone = {name: settings[name] for name in _OF_DATA_ALONE}
    source = open_source(
        data,
        unlabelled_ok=unlabelled_ok,
        class_names=class_names,
        known_classes_only=class_names is not None,
        **alone,
        **reading,
    )
    if settings["test"] is None:
        return source, None
    return source, open_test(settings["test"], source, label_column=settings["test_label_column"], **reading)


def refuse_beside_record(context: typer.Context, run: str) -> None:
    """`--resume RUN` takes every setting from the run's own record, so none may be given beside it."""
    kept = {"data", "resume", "stream", "log", "quiet", "verbose", "json_output", "debug"}
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
        recorded = {name: data[name] if name in _ALWAYS_RECORDED else data.get(name) for name in DATA_SETTINGS}
        recorded["download"] = bool(recorded["download"])
        if config["schema_version"] != 1:
            raise InputError(f"{run / 'config.toml'}: written by another version of winnow")
        chosen = Settings(**config["train"], hyperparameters=config["hyperparameters"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run / 'config.toml'}: not a complete record of a run: {error}") from error
    return address, recorded, chosen
