"""Class graphs: who is whose sibling, and beliefs spread over them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.plain import close
from winnow.errors import InputError
from winnow.functional.class_graph import (
    confused_siblings,
    read_siblings,
    siblings_of_groups,
    spread,
    spreading_matrix,
)

EXACT = {"rtol": 0.0, "atol": 1e-12}
NAMES = ("cat", "dog", "wolf", "car", "truck", "tree")
ANIMALS = [[1, 2], [0, 2], [0, 1], [4], [3], []]
TAXONOMY = "cat,animal\ndog,animal\nwolf,animal\ncar,vehicle\ntruck,vehicle\ntree,plant\nanimal,thing\nplant,thing\n"
IDS = ("n02084071", "n02083346", "n02121808")


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def beliefs(rows=7, classes=6, seed=0):
    return torch.randn(rows, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).softmax(dim=1)


def dense(siblings, beta):
    return spreading_matrix(siblings, beta).to_dense().double()


# Files


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "child,parent\n" + TAXONOMY),
        (
            "a.csv",
            "parent,child\n" + "".join(",".join(line.split(",")[::-1]) + "\n" for line in TAXONOMY.splitlines()),
        ),
        ("a.csv", "Child, Parent\r\n\r\n" + TAXONOMY.replace(",", " , ")),
        ("a.csv", TAXONOMY),
        ("a.tsv", TAXONOMY.replace(",", "\t")),
        ("a.csv", "class,class\ncat,dog\nwolf,cat\ndog,wolf\ntruck,car\n"),
        ("a.csv", "cat,dog\nwolf,cat\ndog,wolf\ntruck,car\n"),
    ],
)
def test_a_taxonomy_and_pairs_say_the_same(tmp_path, name, text):
    assert list(read_siblings(written(tmp_path, name, text), NAMES)) == ANIMALS


def test_siblings_share_a_parent_and_no_grandparent(tmp_path):
    assert read_siblings(written(tmp_path, "a.csv", TAXONOMY), NAMES)[5] == []


def test_with_several_parents_siblings_need_not_form_a_group(tmp_path):
    path = written(tmp_path, "a.csv", "child,parent\ncat,pet\ndog,pet\ndog,canine\nwolf,canine\n")

    assert list(read_siblings(path, NAMES))[:3] == [[1], [0, 2], [1]]


def test_a_class_may_be_the_parent_of_others_where_the_header_says_what_it_is(tmp_path):
    path = written(tmp_path, "a.csv", "child,parent\ncat,tree\ndog,tree\ntree,life\n")

    assert list(read_siblings(path, NAMES)) == [[1], [0], [], [], [], []]


def test_wordnet_lists_a_parent_and_its_child(tmp_path):
    text = "n00000001 n02084071\nn00000001 n02083346\nn02083346 n02121808\nn00000002 n00000003\n"

    assert list(read_siblings(written(tmp_path, "wordnet.is_a.txt", text), IDS)) == [[1], [0], []]


@pytest.mark.parametrize(
    ("name", "text", "classes", "message"),
    [
        ("a.csv", "child,parent\ncat,animal\ndgo,animal\n", NAMES, "line 3: no class 'dgo'; did you mean dog?"),
        ("a.csv", "class,class\ncat,dgo\n", NAMES, "line 2: no class 'dgo'; did you mean dog?"),
        ("a.csv", "cat,dog\nwolf,treee\n", NAMES, "line 2: no class 'treee'; did you mean tree?"),
        ("a.csv", "class,class\nxyz,dog\n", NAMES, "no class 'xyz'; the classes are cat, dog, wolf, car, truck, tree"),
        ("a.csv", "cat;dog\n", NAMES, "line 1: 1 fields; a class graph has two, child,parent or class,class"),
        ("a.csv", "", NAMES, "no two of the 6 classes are siblings"),
        ("a.csv", "cat,animal\ncar,vehicle\n", NAMES, "no two of the 6 classes are siblings"),
        ("a.txt", "n00000001 n02084071\n", NAMES, "WordNet relates ids such as n02084071; class 'cat' is none"),
        ("a.txt", "n00000001 n02084071\nn00000001\n", IDS, "line 2: not two WordNet ids, a parent and its child"),
        ("a.txt", "n00000001 n02084071\nn00000001 n02083346\n", IDS, "class 'n02121808' has no parent there"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_a_line(tmp_path, name, text, classes, message):
    with pytest.raises(InputError) as error:
        read_siblings(written(tmp_path, name, text), classes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_siblings(tmp_path / "a.csv", NAMES)


# Confusions


def test_siblings_are_those_confused_most_in_both_directions_together():
    confusion = np.array([[9.0, 0.3, 0.1, 0.0], [0.0, 9.0, 0.2, 0.0], [0.4, 0.0, 9.0, 0.0], [0.0, 0.0, 0.0, 9.0]])
    # Mutual: (0, 1) 0.15, (0, 2) 0.25, (1, 2) 0.1.

    assert list(confused_siblings(confusion, top=1)) == [[2], [0], [0], []]
    assert list(confused_siblings(confusion, top=3)) == [[1, 2], [0, 2], [0, 1], []]
    assert list(confused_siblings(confusion, threshold=0.12)) == [[1, 2], [0], [0], []]
    assert list(confused_siblings(confusion, top=1, threshold=0.2)) == [[2], [0], [0], []]
    assert list(confused_siblings(confusion)) == [[], [], [], []]


# The matrix


def test_the_matrix_is_the_papers():
    by_hand = torch.tensor(
        [
            [0.7, 0.15, 0.15, 0, 0, 0],
            [0.15, 0.7, 0.15, 0, 0, 0],
            [0.15, 0.15, 0.7, 0, 0, 0],
            [0, 0, 0, 0.7, 0.3, 0],
            [0, 0, 0, 0.3, 0.7, 0],
            [0, 0, 0, 0, 0, 1],
        ]
    ).double()

    close(dense(ANIMALS, 0.3), by_hand, rtol=0, atol=1e-7)


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 1.0])
def test_columns_sum_to_one_and_in_groups_rows_do_too(beta):
    chain = [[1], [0, 2], [1], []]
    for siblings in (ANIMALS, chain):
        close(dense(siblings, beta).sum(dim=0), torch.ones(len(siblings)).double(), rtol=0, atol=1e-7)
    close(dense(ANIMALS, beta).sum(dim=1), torch.ones(6).double(), rtol=0, atol=1e-7)
    # The column of the middle class divides beta by two, so that rows of the chain do not.
    close(dense(chain, beta).sum(dim=1), torch.tensor([1 - beta / 2, 1 + beta, 1 - beta / 2, 1]).double(), 0, 1e-7)


def test_without_beta_it_is_the_identity():
    assert torch.equal(dense(ANIMALS, 0.0), torch.eye(6).double())


def test_at_the_largest_sensible_beta_a_group_is_averaged():
    s = beliefs(classes=4)
    found = spread(s, dense(siblings_of_groups([[0, 2, 3]], 4), 2 / 3))

    close(found[:, [0, 2, 3]], s[:, [0, 2, 3]].mean(dim=1, keepdim=True).expand(-1, 3), rtol=0, atol=1e-7)
    close(found[:, 1], s[:, 1], rtol=0, atol=1e-7)


def test_another_order_of_the_classes_changes_nothing_but_the_order():
    order = [3, 0, 5, 1, 4, 2]
    place = {old: new for new, old in enumerate(order)}
    chain = [[1, 2], [0], [1], [4], [3, 0], []]
    renamed = [sorted(place[k] for k in chain[old]) for old in order]
    s = beliefs()

    close(spread(s[:, order], dense(renamed, 0.2)), spread(s, dense(chain, 0.2))[:, order], **EXACT)


def test_a_belief_goes_from_a_class_to_those_that_name_it_sibling():
    """Row vector times matrix: column n takes from its siblings, here class 0 from class 1, which takes from 2."""
    matrix = dense([[1], [2], []], 0.5)
    s = torch.tensor([[0.0, 1.0, 0.0]]).double()

    close(s @ matrix, torch.tensor([[0.5, 0.5, 0.0]]).double(), **EXACT)
    third = torch.tensor([[0.0, 1.0, 2.0]]).double() / 3
    close(spread(torch.tensor([[0.0, 0.0, 1.0]]).double(), matrix), third, **EXACT)


def test_rows_are_scaled_to_distributions_or_cut_to_probabilities():
    chain = dense([[1], [0, 2], [1]], 0.6)
    s = torch.tensor([[0.9, 0.8, 0.9]]).double()
    by_hand = torch.tensor([[0.4 * 0.9 + 0.6 * 0.8, 0.4 * 0.8 + 0.6 * 0.9, 0.84]]).double()

    close(spread(s, chain, exclusive=False), by_hand, rtol=0, atol=1e-7)
    close(spread(s, chain), by_hand / by_hand.sum(), rtol=0, atol=1e-7)
    assert spread(torch.full((1, 3), 1.0).double(), 1.5 * chain, exclusive=False).max() == 1


def test_a_belief_that_would_reach_no_class_stays_where_it_is():
    """Class 0 gives all its column to class 1 and is nobody's sibling."""
    matrix = dense([[1], [2], [1]], 1.0)
    s = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]).double()

    assert matrix[0].sum() == 0
    close(spread(s, matrix), torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.0, 0.5]]).double(), **EXACT)


def test_a_thousand_classes_cost_only_their_edges():
    matrix = spreading_matrix(siblings_of_groups(np.arange(1000).reshape(200, 5).tolist(), 1000), 0.1)

    assert matrix._nnz() == 5000
    close(matrix.to_dense().sum(dim=0), torch.ones(1000), rtol=0, atol=1e-6)
