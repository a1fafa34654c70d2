"""A crawl that no search brought, for trying the web study: everything that is wrong with it is known.

Foreign and mislabelled images are those of `winnow noise --kind web`. Copies of test images and copies under several
classes are planted, and images with a wrong label stand further down in the results.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from winnow.bench.mislabel_data import readable
from winnow.bench.web_copies import cut, recompressed
from winnow.data.metadata import KEY, TableMetadata
from winnow.data.randomness import permutation, stream_key, uniforms
from winnow.data.source import Source
from winnow.errors import UsageError
from winnow.files import atomic_write
from winnow.noise.kinds import make_noise
from winnow.noise.noisy_source import noisy_source

_RANK_NOISE = 0.7
"""How little the place in the results says: wrong images lie this share of the depth behind right ones, on average."""


@dataclass(frozen=True)
class Planted:
    """What a simulated crawl holds, by row.

    Attributes:
        test_row: the test image that it is a copy of, -1 for none, (N,).
        several: whether it was put under another class as well, boolean (N,).
        foreign: of none of the classes, boolean (N,).
        wrong: of another class than it was returned for, boolean (N,).
    """

    test_row: np.ndarray
    several: np.ndarray
    foreign: np.ndarray
    wrong: np.ndarray


def write_simulated_crawl(
    source: Source,
    test: Source,
    out: Path,
    *,
    foreign_rate: float = 0.2,
    wrong_rate: float = 0.15,
    class_map: str | None = None,
    donor: Source | str = "blurred",
    test_copies: int = 0,
    several: int = 0,
    seed: int = 0,
) -> Planted:
    """Writes an .npz with pictures, `query` (the label), `rank`, the truth and `foreign`.

    Args:
        source: the images, whose labels are the truth.
        test: of which copies are planted.
        out: the file.
        foreign_rate: share of foreign images (cross-domain) of every class.
        wrong_rate: share of every source class of the map that is returned for another class (cross-category).
        class_map: groups of classes that are taken for each other, see `winnow.noise.kinds.make_noise`.
        donor: where foreign images come from, see there.
        test_copies: how many are planted: recompressed, recoloured or cut, in turn.
        several: how many images are returned for another class as well.
        seed: of everything random.

    Raises:
        UsageError: there are not so many images, or the rates are not possible.
    """
    source, _ = readable(source)
    web = make_noise(source, "web", wrong_rate, class_map=class_map, donor=donor, foreign_rate=foreign_rate, seed=seed)
    truth = source.noisy_labels.copy()
    made = noisy_source(source, web)
    _, images = readable(made)
    test, tests = readable(test, size=images.shape[1])
    if test_copies > len(tests) or several > len(images):
        raise UsageError(f"{test_copies:,} test copies and {several:,} images of several classes are not there")
    foreign = np.zeros(len(images), dtype=bool) if web.foreign is None else web.foreign
    labels = made.noisy_labels
    twice = permutation(stream_key(seed, "web several"), np.arange(len(images)))[:several]
    shift = 1 + np.floor(uniforms(stream_key(seed, "web other"), twice, 1)[:, 0] * (source.num_classes - 1))
    other = (labels[twice] + shift.astype(np.int64)) % source.num_classes
    planted = permutation(stream_key(seed, "web test copies"), np.arange(len(tests)))[:test_copies]
    changes: list[Callable[[np.ndarray, int], np.ndarray]] = [
        lambda image, _: recompressed(image, 60),
        lambda image, _: np.clip(image * 1.1 + 5, 0, 255).astype(np.uint8),
        lambda image, key: cut(image, 0.95, key),
    ]
    copies = [changes[number % 3](tests[row], row) for number, row in enumerate(planted.tolist())]
    whole = np.concatenate([images, images[twice], *(np.stack(copies)[None] if copies else [])])
    query = np.concatenate([labels, other, test.noisy_labels[planted]])
    true = np.concatenate([truth, truth[twice], test.noisy_labels[planted]])
    is_foreign = np.concatenate([foreign, foreign[twice], np.zeros(test_copies, dtype=bool)])
    test_row = np.concatenate([np.full(len(images) + several, -1), planted])
    wrong = ~is_foreign & (query != true)
    order = permutation(stream_key(seed, "web order"), np.arange(len(whole)))
    depth = uniforms(stream_key(seed, "web rank"), np.arange(len(whole)), 1)[:, 0]
    depth += (1 - _RANK_NOISE) * (wrong | is_foreign)
    rank = np.empty(len(whole), dtype=np.int64)
    for index in range(source.num_classes):
        mine = np.flatnonzero(query == index)
        rank[mine[np.argsort(depth[mine], kind="stable")]] = np.arange(1, len(mine) + 1)
    several_rows = np.isin(np.arange(len(whole)), np.concatenate([twice, len(images) + np.arange(several)]))
    convention = (
        f"{web.convention}; {test_copies:,} copies of test images and {several:,} images of two classes planted"
    )
    record = TableMetadata(
        class_names=list(source.class_names),
        label_column="query",
        clean_label_column="truth",
        image_column="x",
        grey=source.grey,
        mirror=source.mirror,
        noise={"generator": "web", "convention": convention, "seed": seed},
    )
    file = io.BytesIO()
    arrays: dict[str, Any] = {
        "x": (whole[..., 0] if whole.shape[3] == 1 else whole)[order],
        "query": query[order],
        "truth": np.where(is_foreign, -1, true)[order],
        "foreign": is_foreign[order],
        "rank": rank[order],
        "id": np.array([f"{row:05d}" for row in range(len(whole))]),
        "class_names": np.array(source.class_names, dtype=np.str_),
        KEY: np.array(record.model_dump_json()),
    }
    np.savez_compressed(file, allow_pickle=False, **arrays)
    atomic_write(out, file.getvalue())
    return Planted(test_row[order], several_rows[order], is_foreign[order], wrong[order])
