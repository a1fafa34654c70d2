"""What the options of a command say about reading DATA, for every kind of source alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from winnow.data.decode import Limits
from winnow.data.label_map import LabelMap
from winnow.errors import UsageError

ON_DUPLICATE = ("first", "conflict")


@dataclass(frozen=True)
class Reading:
    """How a source is to be read.

    Attributes:
        label_column: where the labels stand; None leaves it to the file.
        clean_label_column: where the truth stands.
        label_separator: between the classes of an image, where texts name several.
        image_column: where the pictures or their paths stand; None finds it.
        verified: the column that says which labels a person has checked; a name that is no column is left alone.
        class_names: the only classes allowed, in index order.
        label_map: new names for labels.
        on_duplicate: what becomes of an image that is named twice: `first`, `conflict`, or None to refuse it where the
            labels differ.
        limits: what pictures may be.
        follow_links: whether links may lead out of a folder.
        unlabelled_ok: accept data without labels: every image is then unlabelled.
        known_classes_only: refuse sub-folders that name none of `class_names`, even where labels may be missing.
        ignore_labels: take every image as unlabelled, whatever its labels.
        root: where the files of built-in collections lie; None asks the environment variable WINNOW_DATA.
        download: whether what is missing may be fetched.
        progress: hears of a download: what, bytes done, bytes in all.
    """

    label_column: str | None = None
    clean_label_column: str | None = None
    label_separator: str | None = None
    image_column: str | None = None
    verified: str | None = None
    class_names: Sequence[str] | None = None
    label_map: LabelMap | None = None
    on_duplicate: str | None = None
    limits: Limits = field(default_factory=Limits)
    follow_links: bool = False
    unlabelled_ok: bool = False
    known_classes_only: bool = False
    ignore_labels: bool = False
    root: Path | None = None
    download: bool = False
    progress: Callable[[str, int, int], None] | None = None

    def __post_init__(self) -> None:
        if self.on_duplicate not in (None, *ON_DUPLICATE):
            raise UsageError(f"--on-duplicate must be {' or '.join(ON_DUPLICATE)}, got {self.on_duplicate}")

    def of_test_set(self) -> Reading:
        """What of it holds for the test set that a source names itself, in whose file other columns may stand."""
        return Reading(
            label_map=self.label_map, limits=self.limits, root=self.root, download=self.download, progress=self.progress
        )

    def refuse_columns(self, data: str, why: str) -> None:
        """A source without columns has none to choose from.

        Raises:
            UsageError: a column was named.
        """
        for option in ("label_column", "clean_label_column", "image_column"):
            if getattr(self, option):
                raise UsageError(f"{data}: {why}; leave --{option.replace('_', '-')} away")
