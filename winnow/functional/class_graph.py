"""Class graphs: which classes are related, and a belief about one of them spread over its siblings.

Li et al. 2017, arXiv:1703.02391. Siblings share a parent in a taxonomy, are named together, or are confused by a model.
"""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from winnow.data.classes import class_advice
from winnow.data.delimited import read_text
from winnow.data.places import LocalPlace
from winnow.errors import InputError

Siblings = Sequence[Sequence[int]]
"""The siblings of each class, ascending, never the class itself."""

TAXONOMY = ("child", "parent")
PAIRS = ("class", "class")
_WORDNET_ID = re.compile(r"[nvar][0-9]{8}")
_Edge = tuple[str, str, str]
"""Two names, and where they stand for messages."""


def read_siblings(path: Path, class_names: Sequence[str]) -> Siblings:
    """The siblings of each class as a file tells them; classes that it does not name have none.

    A .csv or .tsv file has two columns: `child,parent`, where children of one parent are siblings and children that
    are themselves parents need not be classes (`parent,child` swaps the columns); or `class,class`, one pair of
    siblings a line. Without such a header it is a taxonomy, children first, if no name of the second column is a class.
    A .txt file holds WordNet's is-a relations as ImageNet distributes them (`wordnet.is_a.txt`: a parent's id and a
    child's id a line); class names are then WordNet ids.

    Args:
        path: the file.
        class_names: in index order.

    Raises:
        InputError: the file cannot be used, names a class that is none, or relates no two classes.
    """
    if path.suffix.lower() == ".txt":
        edges, is_taxonomy = _wordnet_edges(path, class_names), True
    else:
        edges, is_taxonomy = _table_edges(path, class_names)
    index_of = {name: index for index, name in enumerate(class_names)}
    if is_taxonomy:
        members: dict[str, list[int]] = defaultdict(list)
        for child, parent, _ in edges:
            if child in index_of:
                members[parent].append(index_of[child])
        siblings = siblings_of_groups(list(members.values()), len(class_names))
    else:
        siblings = siblings_of_groups([[index_of[a], index_of[b]] for a, b, _ in edges], len(class_names))
    if not any(siblings):
        raise InputError(f"{path}: no two of the {len(class_names)} classes are siblings")
    return siblings


def siblings_of_groups(groups: Sequence[Sequence[int]], num_classes: int) -> Siblings:
    """The siblings of each class: whoever stands in a group with it. A class may stand in several groups, or in none.

    Args:
        groups: class indices.
        num_classes: K.
    """
    related: list[set[int]] = [set() for _ in range(num_classes)]
    for group in groups:
        for index in group:
            related[index].update(group)
    return [sorted(found - {index}) for index, found in enumerate(related)]


def confused_siblings(
    confusion: Float[np.ndarray, "classes classes"], *, top: int = 0, threshold: float | None = None
) -> Siblings:
    """The siblings of each class: those that a model confuses most with it, be it taken for them or they for it.

    Args:
        confusion: entry (i, j) = mean probability of class j where the truth is i, or counts scaled to that; the
            diagonal does not matter.
        top: how many, at most, that are confused with it most; 0 = none (ties: the lower index).
        threshold: whoever is confused with it by more than this, as a mean over both directions; None = nobody.

    Returns:
        Those that are among the top or above the threshold; a class that is never confused has none.
    """
    mutual = (confusion + confusion.T) / 2
    np.fill_diagonal(mutual, 0)
    chosen = np.zeros(mutual.shape, dtype=bool)
    nearest = np.argsort(-mutual, axis=1, kind="stable")[:, :top]
    np.put_along_axis(chosen, nearest, True, axis=1)
    if threshold is not None:
        chosen |= mutual > threshold
    return [np.flatnonzero(row).tolist() for row in chosen & (mutual > 0)]


def spreading_matrix(siblings: Siblings, beta: float) -> Float[Tensor, "classes classes"]:
    """T, sparse: column n keeps 1 - beta for class n and gives beta in equal parts to the siblings of n.

    Columns sum to one; a class without siblings keeps everything. Rows sum to one, too, where siblings form groups.

    Args:
        siblings: of each class.
        beta: in [0, 1]; at 0 nothing is spread, at (g - 1) / g a group of g classes is averaged.

    Returns:
        Coalesced COO.
    """
    rows, columns, values = [], [], []
    for column, related in enumerate(siblings):
        rows += [column, *related]
        columns += [column] * (1 + len(related))
        values += [1 - beta if related else 1.0, *([beta / len(related)] * len(related) if related else [])]
    shape = (len(siblings), len(siblings))
    return torch.sparse_coo_tensor(
        torch.tensor([rows, columns]), torch.tensor(values), shape, check_invariants=True
    ).coalesce()


def spread(
    probs: Float[Tensor, "batch classes"], matrix: Float[Tensor, "classes classes"], *, exclusive: bool = True
) -> Float[Tensor, "batch classes"]:
    """Beliefs spread over siblings: each row times T.

    Args:
        probs: class probabilities.
        matrix: T, see `spreading_matrix`, dense.
        exclusive: an image has one class: rows are scaled to sum to one again, which matters where siblings do not form
            groups. Otherwise each probability is by itself, and cut to [0, 1].
    """
    # Outside autocast: 8 bits of mantissa would change beliefs that T leaves alone.
    with torch.autocast(probs.device.type, enabled=False):
        found = probs @ matrix
    if not exclusive:
        return found.clamp(0, 1)
    total = found.sum(dim=1, keepdim=True)
    # At beta = 1 a class that is nobody's sibling gives everything away and reaches no one.
    return torch.where(total > 0, found / total.clamp_min(torch.finfo(found.dtype).tiny), probs)


def _table_edges(path: Path, class_names: Sequence[str]) -> tuple[list[_Edge], bool]:
    """(edges, whether they make a taxonomy)."""
    text = read_text(LocalPlace(path))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    edges: list[_Edge] = []
    for cells in reader:
        where = f"{path} line {reader.line_num}"
        if cells and len(cells) != 2:
            raise InputError(f"{where}: {len(cells)} fields; a class graph has two, child,parent or class,class")
        if cells:
            edges.append((cells[0].strip(), cells[1].strip(), where))
    header = tuple(name.lower() for name in edges[0][:2]) if edges else ()
    if header == TAXONOMY[::-1]:
        edges = [(child, parent, where) for parent, child, where in edges]
        header = TAXONOMY
    known = set(class_names)
    if header in (TAXONOMY, PAIRS):
        edges = edges[1:]
        is_taxonomy = header == TAXONOMY
    else:
        is_taxonomy = not any(second in known for _, second, _ in edges)
    # An inner node of a taxonomy is the child of another one.
    allowed = known | {parent for _, parent, _ in edges} if is_taxonomy else known
    for first, second, where in edges:
        for name in (first,) if is_taxonomy else (first, second):
            if name not in allowed:
                raise InputError(f"{where}: no class '{name}'; {class_advice(name, class_names)}")
    return edges, is_taxonomy


def _wordnet_edges(path: Path, class_names: Sequence[str]) -> list[_Edge]:
    for name in class_names:
        if not _WORDNET_ID.fullmatch(name):
            raise InputError(f"{path}: WordNet relates ids such as n02084071; class '{name}' is none")
    edges = list(_wordnet_lines(path))
    absent = set(class_names) - {child for child, _, _ in edges}
    if absent:
        raise InputError(f"{path}: class '{min(absent)}' has no parent there")
    return edges


def _wordnet_lines(path: Path) -> Iterator[_Edge]:
    for number, line in enumerate(read_text(LocalPlace(path)).splitlines(), start=1):
        names = line.split()
        if names and (len(names) != 2 or not all(map(_WORDNET_ID.fullmatch, names))):
            raise InputError(f"{path} line {number}: not two WordNet ids, a parent and its child")
        if names:
            parent, child = names
            yield child, parent, f"{path} line {number}"
