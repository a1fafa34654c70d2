"""Collections that are known by name and bring their test set."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from winnow.data.decode import Limits
from winnow.data.npz import open_npz
from winnow.data.pictures import ArrayPictures
from winnow.data.randomness import sample_keys, stream_key
from winnow.data.source import Source
from winnow.data.table import open_table
from winnow.errors import InputError, UsageError

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10N_COLUMNS = ("aggre", "random1", "random2", "random3", "worse")
_DIGIT_TESTS_A_CLASS = 36


@dataclass(frozen=True)
class _Request:
    """What was asked for beside the name."""

    root: Path | None
    label_column: str | None
    clean_label_column: str | None
    limits: Limits


def builtin_names() -> tuple[str, ...]:
    """Every name that can be typed; `:test` gives the test set alone."""
    return tuple(_BUILTINS)


def open_builtin(
    name: str,
    *,
    root: Path | None = None,
    label_column: str | None = None,
    clean_label_column: str | None = None,
    limits: Limits,
) -> Source:
    """Open a collection by its name.

    Args:
        name: such as `digits`, `mnist`, `cifar10`, `cifar10n:worse`, or with `:test`.
        root: where the files lie; by default the environment variable WINNOW_DATA.
        label_column: another label column of the same file.
        clean_label_column: the truth.
        limits: what pictures may be.

    Raises:
        InputError: the name is unknown or its files are not there.
    """
    if name not in _BUILTINS:
        raise unknown_builtin(name)
    source = _BUILTINS[name](_Request(root, label_column, clean_label_column, limits))
    source = replace(source, address=name)
    if name.endswith(":test"):
        return source
    test_name = f"{name.split(':')[0].replace('cifar10n', 'cifar10')}:test"
    return replace(source, test_address=test_name, test=lambda: open_builtin(test_name, root=root, limits=limits))


def unknown_builtin(name: str) -> InputError:
    """The error for a name that is neither a path nor built in."""
    near = get_close_matches(name, _BUILTINS, n=1)
    if near:
        return InputError(f"{name}: no such file, folder or built-in collection; did you mean {near[0]}?")
    return InputError(
        f"{name}: not there; DATA is a folder with one sub-folder a class, a .csv, .tsv, .parquet or .npz file, or "
        "built in: digits, mnist, cifar10, cifar10n:worse (aggre, random1, random2, random3)"
    )


def digits(*, test: bool = False) -> Source:
    """The handwritten digits of scikit-learn, 8 x 8: 1,437 for training or, fixed for good, 360 for tests."""
    from sklearn.datasets import load_digits  # takes a second to import

    bunch = load_digits()
    rows = np.arange(len(bunch.target))
    keys = sample_keys(stream_key(0, "digits test"), rows)
    is_test = np.zeros(len(rows), bool)
    for index in range(10):
        members = rows[bunch.target == index]
        is_test[members[np.argsort(keys[members])[:_DIGIT_TESTS_A_CLASS]]] = True
    chosen = rows[is_test == test]
    # Sixteen grey levels and zero: 16 becomes 255.
    pixels = np.rint(bunch.images[chosen] * (255 / 16)).astype(np.uint8)
    return Source(
        address="digits",
        ids=[f"{row:06d}" for row in chosen],
        class_names=tuple(str(index) for index in range(10)),
        noisy_labels=bunch.target[chosen].astype(np.int64),
        pictures=ArrayPictures(pixels),
        grey=True,
        mirror=False,
    )


def _digits(request: _Request, *, test: bool) -> Source:
    if request.label_column or request.clean_label_column:
        raise UsageError("digits has no label columns to choose from; leave --label-column away")
    return digits(test=test)


def _mnist(request: _Request, *, part: str) -> Source:
    source = open_npz(
        _file(request, f"mnist_{part}.npz", "mnist"),
        label_column=request.label_column,
        clean_label_column=request.clean_label_column,
        class_names=tuple(str(index) for index in range(10)),
    )
    return replace(source, mirror=False)


def _cifar10(request: _Request, *, part: str, label: str = "label", truth: str | None = None) -> Source:
    return open_table(
        _file(request, f"cifar10_{part}.parquet", "cifar10"),
        label_column=request.label_column or label,
        clean_label_column=request.clean_label_column or truth,
        class_names=CIFAR10_CLASSES,
        limits=request.limits,
    )


def _file(request: _Request, name: str, collection: str) -> Path:
    root = request.root or (Path(os.environ["WINNOW_DATA"]) if os.environ.get("WINNOW_DATA") else None)
    if root is None:
        raise InputError(f"{collection}: needs the file {name}; say where it lies: --root FOLDER or WINNOW_DATA=FOLDER")
    if not (root / name).is_file():
        raise InputError(f"{collection}: no file {root / name}; say where it lies: --root FOLDER or WINNOW_DATA=FOLDER")
    return root / name


def _human(column: str) -> Callable[[_Request], Source]:
    return lambda request: _cifar10(request, part="train", label=column, truth="label")


_BUILTINS: dict[str, Callable[[_Request], Source]] = {
    "digits": lambda request: _digits(request, test=False),
    "digits:test": lambda request: _digits(request, test=True),
    "mnist": lambda request: _mnist(request, part="train"),
    "mnist:test": lambda request: _mnist(request, part="test"),
    "cifar10": lambda request: _cifar10(request, part="train"),
    "cifar10:test": lambda request: _cifar10(request, part="test"),
    **{f"cifar10n:{column}": _human(column) for column in CIFAR10N_COLUMNS},
}
