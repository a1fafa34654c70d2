"""Collections that are known by name and bring their test set."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from winnow.data.columns import Columns, ParquetColumns
from winnow.data.layouts import (
    CIFAR10,
    CIFAR100,
    FASHION_MNIST,
    MNIST,
    cifar_batches,
    cifar_images,
    human_labels,
    idx_arrays,
)
from winnow.data.npz import ArrayColumns, npz_columns
from winnow.data.places import LocalPlace
from winnow.data.randomness import sample_keys, stream_key
from winnow.data.reading import Reading
from winnow.data.source import Source
from winnow.data.table import table_source
from winnow.errors import InputError

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FASHION_CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
                   "Ankle boot")  # fmt: skip
DIGIT_CLASSES = tuple(str(index) for index in range(10))
CIFAR10N_COLUMNS = ("aggre", "random1", "random2", "random3", "worse")
# The names in the published file, by ours.
_CIFAR10N = {"aggre": "aggre_label", "worse": "worse_label"} | {f"random{n}": f"random_label{n}" for n in (1, 2, 3)}
_CIFAR100N = {"noisy": "noisy_label", "noisy_coarse": "noisy_coarse_label"}
_DIGIT_TESTS_A_CLASS = 36
_HUMAN_LABELS = "https://github.com/UCSC-REAL/cifar-10-100n"


@dataclass(frozen=True)
class _BuiltIn:
    """How a name is read.

    Attributes:
        columns: the images and labels of its files.
        label: the label column.
        truth: the column of right labels, if the labels are not.
        test: the name of its test set; None for a test set.
        mirror: see `Source`.
    """

    columns: Callable[[Reading], Columns]
    label: str = "label"
    truth: str | None = None
    test: str | None = None
    mirror: bool | None = None


def builtin_names() -> tuple[str, ...]:
    """Every name that can be typed; `:test` gives the test set alone."""
    return tuple(_BUILTINS)


def open_builtin(name: str, reading: Reading) -> Source:
    """Open a collection by its name.

    Args:
        name: such as `digits`, `mnist`, `cifar10`, `cifar10n:worse`, or with `:test`.
        reading: what the options say.

    Raises:
        InputError: the name is unknown or its files are not there.
        MachineError: they should be fetched, and the network failed.
    """
    if name not in _BUILTINS:
        raise unknown_builtin(name)
    entry = _BUILTINS[name]
    if name.startswith("digits"):
        reading.refuse_columns(name, "it has no columns to choose from")
    chosen = replace(
        reading,
        label_column=reading.label_column or entry.label,
        clean_label_column=reading.clean_label_column or (entry.truth if reading.label_column is None else None),
        class_names=None,
    )
    source = table_source(entry.columns(reading), chosen, name)
    source = replace(source, mirror=entry.mirror, test_address=entry.test)
    if entry.test is None:
        return source
    test_name = entry.test
    return replace(source, test=lambda: open_builtin(test_name, reading.of_test_set()))


def unknown_builtin(name: str) -> InputError:
    """The error for a name that is neither a path nor built in."""
    near = get_close_matches(name, _BUILTINS, n=1)
    if near:
        return InputError(f"{name}: no such file, folder or built-in collection; did you mean {near[0]}?")
    return InputError(
        f"{name}: not there; DATA is a folder with one sub-folder a class, a .csv, .tsv, .jsonl, .parquet, .npz or "
        ".tar, hf:NAME, or built in: digits, mnist, fashion-mnist, cifar10, cifar10n:worse, cifar100, ..."
    )


def digits(*, test: bool = False) -> Source:
    """The handwritten digits of scikit-learn, 8 x 8: 1,437 for training or, fixed for good, 360 for tests."""
    return open_builtin("digits:test" if test else "digits", Reading())


def _digits(part: str) -> Columns:
    from sklearn.datasets import load_digits  # takes a second to import

    bunch = load_digits()
    rows = np.arange(len(bunch.target))
    keys = sample_keys(stream_key(0, "digits test"), rows)
    is_test = np.zeros(len(rows), bool)
    for index in range(10):
        members = rows[bunch.target == index]
        is_test[members[np.argsort(keys[members])[:_DIGIT_TESTS_A_CLASS]]] = True
    chosen = rows[is_test == (part == "test")]
    # Sixteen grey levels and zero: 16 becomes 255.
    pixels = np.rint(bunch.images[chosen] * (255 / 16)).astype(np.uint8)
    ids = np.array([f"{row:06d}" for row in chosen])
    return _arrays("digits", {"x": pixels, "label": bunch.target[chosen].astype(np.int64), "id": ids}, DIGIT_CLASSES)


def _mnist(reading: Reading, part: str) -> Columns:
    root = _root(reading, "mnist")
    packed = root / f"mnist_{part}.npz"
    if packed.is_file():
        found = npz_columns(LocalPlace(packed), None)
        return ArrayColumns(found.where, found.columns, found.read, class_names=DIGIT_CLASSES)
    arrays = idx_arrays(MNIST, part, root, reading)
    if arrays is None:
        raise _absent("mnist", root, f"mnist_{part}.npz or {Path(MNIST[0].path).parent}")
    return _arrays(str(root / "MNIST"), arrays, DIGIT_CLASSES)


def _fashion_mnist(reading: Reading, part: str) -> Columns:
    root = _root(reading, "fashion-mnist")
    arrays = idx_arrays(FASHION_MNIST, part, root, reading)
    if arrays is None:
        raise _absent("fashion-mnist", root, str(Path(FASHION_MNIST[0].path).parent))
    return _arrays(str(root / "FashionMNIST"), arrays, FASHION_CLASSES)


def _cifar10(reading: Reading, part: str, human: bool = False) -> Columns:
    root = _root(reading, "cifar10")
    packed = root / f"cifar10_{part}.parquet"
    if packed.is_file():
        table = ParquetColumns([LocalPlace(packed)], str(packed))
        table.metadata = table.metadata.model_copy(update={"class_names": list(CIFAR10_CLASSES)})
        return table
    folder = "cifar-10-batches-py"
    names = ["test_batch"] if part == "test" else [f"data_batch_{number}" for number in range(1, 6)]
    batches = cifar_batches(CIFAR10, folder, names, root, reading)
    if batches is None:
        raise _absent("cifar10", root, f"{packed.name}, {folder} or {CIFAR10.path}")
    where = str(root / folder)
    images = cifar_images(batches, where)
    arrays = {"x": images, "label": _joined(batches, "labels", len(images), where)}
    if human:
        arrays |= _human(root / "CIFAR-10_human.pt", arrays["label"], _CIFAR10N, {"label": "clean_label"})
    return _arrays(where, arrays, CIFAR10_CLASSES)


def _cifar100(reading: Reading, part: str, human: bool = False) -> Columns:
    root = _root(reading, "cifar100")
    folder = "cifar-100-python"
    batches = cifar_batches(CIFAR100, folder, [part, "meta"], root, reading)
    if batches is None:
        raise _absent("cifar100", root, f"{folder} or {CIFAR100.path}")
    where = str(root / folder)
    data, meta = batches[:1], batches[1]
    images = cifar_images(data, where)
    arrays = {
        "x": images,
        "label": _joined(data, "fine_labels", len(images), where),
        "coarse": _joined(data, "coarse_labels", len(images), where),
    }
    pairs = np.unique(np.stack([arrays["label"], arrays["coarse"]]), axis=1)
    if len(np.unique(pairs[0])) < pairs.shape[1]:
        raise InputError(f"{where}: a class lies in two coarse classes; these are not the labels of CIFAR-100")
    if human:
        right = {"label": "clean_label", "coarse": "clean_coarse_label"}
        packed = root / "cifar100n_labels.npz"
        arrays |= _human(
            packed if packed.is_file() else root / "CIFAR-100_human.pt", arrays["label"], _CIFAR100N, right
        )
    names = {column: tuple(map(str, meta.get(f"{kind}_label_names", ()))) for column, kind in
             (("label", "fine"), ("noisy", "fine"), ("coarse", "coarse"), ("noisy_coarse", "coarse"))}  # fmt: skip
    return ArrayColumns(where, list(arrays), arrays.__getitem__, names_of=names)


def _human(
    path: Path, clean: np.ndarray, published: Mapping[str, str], right: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Labels that people gave; their file repeats the right ones, which must be ours."""
    if not path.is_file():
        raise InputError(f"{path}: not there; the human labels are published at {_HUMAN_LABELS}, and not fetched by us")
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            columns = {name: archive[name].astype(np.int64) for name in archive.files}
        published, truth = {name: name for name in published}, columns.get("clean")
    else:
        columns = human_labels(path, len(clean))
        truth = columns.get(right["label"])
    absent = [name for name in published.values() if name not in columns]
    if absent:
        raise InputError(f"{path}: no labels '{absent[0]}' ({', '.join(columns)})")
    if truth is not None and not np.array_equal(truth, clean):
        raise InputError(f"{path}: its right labels are not those of the images: another order, or another collection")
    return {name: columns[theirs] for name, theirs in published.items()}


def _joined(batches: list[dict[str, object]], key: str, num_images: int, where: str) -> np.ndarray:
    """The labels of all batches, one an image."""
    try:
        labels = np.concatenate([np.asarray(batch[key], dtype=np.int64) for batch in batches])
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{where}: has no '{key}'") from error
    if labels.shape != (num_images,):
        raise InputError(f"{where}: {labels.size:,} '{key}' for {num_images:,} images; fetch it again")
    return labels


def _arrays(where: str, arrays: Mapping[str, np.ndarray], class_names: tuple[str, ...]) -> ArrayColumns:
    return ArrayColumns(where, list(arrays), arrays.__getitem__, class_names=class_names)


def _root(reading: Reading, collection: str) -> Path:
    root = reading.root or (Path(os.environ["WINNOW_DATA"]) if os.environ.get("WINNOW_DATA") else None)
    if root is None:
        raise InputError(f"{collection}: say where its files lie, or with --download go: {_WHERE}")
    return root


def _absent(collection: str, root: Path, files: str) -> InputError:
    return InputError(f"{collection}: no {files} in {root}; say where they lie ({_WHERE}), or fetch them: --download")


_WHERE = "--root FOLDER or WINNOW_DATA=FOLDER"


_BUILTINS: dict[str, _BuiltIn] = {
    "digits": _BuiltIn(lambda _: _digits("train"), test="digits:test", mirror=False),
    "digits:test": _BuiltIn(lambda _: _digits("test"), mirror=False),
    "mnist": _BuiltIn(lambda reading: _mnist(reading, "train"), "y", test="mnist:test", mirror=False),
    "mnist:test": _BuiltIn(lambda reading: _mnist(reading, "test"), "y", mirror=False),
    "fashion-mnist": _BuiltIn(lambda reading: _fashion_mnist(reading, "train"), "y", test="fashion-mnist:test"),
    "fashion-mnist:test": _BuiltIn(lambda reading: _fashion_mnist(reading, "test"), "y"),
    "cifar10": _BuiltIn(lambda reading: _cifar10(reading, "train"), test="cifar10:test"),
    "cifar10:test": _BuiltIn(lambda reading: _cifar10(reading, "test")),
    **{
        f"cifar10n:{column}": _BuiltIn(
            lambda reading: _cifar10(reading, "train", human=True), column, "label", test="cifar10:test"
        )
        for column in CIFAR10N_COLUMNS
    },
    "cifar100": _BuiltIn(lambda reading: _cifar100(reading, "train"), test="cifar100:test"),
    "cifar100:test": _BuiltIn(lambda reading: _cifar100(reading, "test")),
    "cifar100:coarse": _BuiltIn(lambda reading: _cifar100(reading, "train"), "coarse", test="cifar100:coarse-test"),
    "cifar100:coarse-test": _BuiltIn(lambda reading: _cifar100(reading, "test"), "coarse"),
    "cifar100n:fine": _BuiltIn(
        lambda reading: _cifar100(reading, "train", human=True), "noisy", "label", test="cifar100:test"
    ),
    "cifar100n:coarse": _BuiltIn(
        lambda reading: _cifar100(reading, "train", human=True), "noisy_coarse", "coarse", test="cifar100:coarse-test"
    ),
}
