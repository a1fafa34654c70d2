import csv
import io

import numpy as np
import pytest

from winnow.bench.shared import Data
from winnow.bench.web_columns import Columns, read_columns
from winnow.bench.web_command import fates_csv
from winnow.bench.web_copies import bordered, calibrated, cut, recompressed, resized
from winnow.bench.web_crawl import clopper_pearson, looked_at
from winnow.bench.web_data import FATES, FOREIGN, KEPT, MERGED, SEVERAL, TEST_COPY, UNKNOWN, crawl_of, known_truth
from winnow.bench.web_sets import capped, chosen, training_set, with_noise, without_as_many
from winnow.bench.web_simulated import write_simulated_crawl
from winnow.data.open import open_source
from winnow.data.pictures import ArrayPictures
from winnow.data.source import Source
from winnow.errors import InputError, UsageError
from winnow.labels.truth import CleanLabels


def scenes(number, seed, side=32):
    """Blobs of colour on a slope of colour: no two are alike."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    images = np.empty((number, side, side, 3))
    for image in images:
        image[:] = rng.uniform(40, 200, 3) + (rng.normal(0, 60, 3)) * x[..., None] + rng.normal(0, 60, 3) * y[..., None]
        for _ in range(5):
            (cy, cx), radius = rng.uniform(0, 1, 2), rng.uniform(0.08, 0.3)
            image[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = rng.uniform(0, 255, 3)
    return np.clip(images, 0, 255).astype(np.uint8)


def source_of(images, labels, classes=3, truth=None, prefix="w"):
    ids = [f"{prefix}{row:04d}" for row in range(len(images))]
    clean = CleanLabels(np.array(truth)) if truth is not None else None
    names = tuple(f"class{index}" for index in range(classes))
    return Source("toy", ids, names, np.array(labels, dtype=np.int64), ArrayPictures(images), clean)


def toy(foreign=(), rank=(), truth=True):
    """12 images of three classes; rows 8 to 11 are copies of test image 0, of row 0, of row 1 and of row 2."""
    own, tests = scenes(8, 0), scenes(6, 1)
    copies = [cut(tests[0], 0.9, 5), own[0], recompressed(own[1]), recompressed(own[2])]
    images = np.concatenate([own, np.stack(copies)])
    labels = [0, 1, 2, 0, 1, 2, 0, 1, 0, 1, 1, 2]
    true = [0, 1, 2, 0, 1, 2, -1, 2, 0, 0, 1, 2] if truth else None
    train = source_of(images, labels, truth=true)
    test = source_of(tests, [0, 1, 2, 0, 1, 2], prefix="t")
    columns = Columns(
        tuple(train.ids), dict(zip(train.ids, rank, strict=False)), frozenset(train.ids[row] for row in foreign)
    )
    return Data(train, test, "f"), columns


def test_every_image_has_the_first_fate_that_applies():
    crawl = crawl_of(*toy())

    expected = [SEVERAL, KEPT, KEPT, *[KEPT] * 5, TEST_COPY, SEVERAL, MERGED, MERGED]
    assert crawl.fate.tolist() == expected
    assert crawl.of[8] == 0
    assert crawl.of[[10, 11]].tolist() == [1, 2]
    assert crawl.copied.tolist() == [True] + [False] * 5
    found = looked_at(crawl)
    assert sum(found["fates"].values()) == 12
    assert [pair["test_id"] for pair in found["pairs"]] == ["t0000"]


def test_fates_do_not_depend_on_the_order_and_once_is_enough():
    data, columns = toy()
    crawl = crawl_of(data, columns)
    order = np.random.default_rng(3).permutation(12)
    from winnow.data.rows import subset

    other = crawl_of(Data(subset(data.train, order), data.test, "f"), columns)
    assert other.fate.tolist() == crawl.fate[order].tolist()

    kept = np.flatnonzero(crawl.fate == KEPT)
    again = crawl_of(Data(subset(data.train, kept), data.test, "f"), columns)
    assert (again.fate == KEPT).all()


def test_the_fates_file_has_a_line_for_every_image_of_the_table():
    data, columns = toy(rank=range(12))
    crawl = crawl_of(data, Columns((*columns.ids, "broken"), columns.rank))

    rows = list(csv.DictReader(io.StringIO(fates_csv(crawl, Columns((*columns.ids, "broken"))))))
    assert len(rows) == 13
    assert rows[8]["fate"] == FATES[TEST_COPY]
    assert rows[8]["copy_of"] == "t0000"
    assert float(rows[8]["likeness"]) > 0.9
    assert (rows[10]["fate"], rows[10]["copy_of"]) == (FATES[MERGED], "w0001")
    assert rows[12]["fate"] == "unreadable or without label"
    assert [row["rank"] for row in rows[:3]] == ["0", "1", "2"]


@pytest.mark.parametrize(
    "make", [recompressed, lambda x: cut(x, 0.9, 1), lambda x: cut(x, 0.8, 2), lambda x: x[:, ::-1]]
)
def test_copies_of_test_images_are_found_and_others_are_not(make):
    own, tests = scenes(150, 10), scenes(60, 11)
    images = np.concatenate([own, np.stack([make(image) for image in tests])])
    data = Data(source_of(images, np.arange(210) % 3), source_of(tests, np.arange(60) % 3, prefix="t"), "f")

    crawl = crawl_of(data, Columns())
    found = crawl.fate == TEST_COPY
    assert found[150:].mean() >= 0.99
    # Of 210 images 60 are copies: with 60 false ones half of what is found would be none.
    assert found[:150].sum() <= 15
    assert (crawl.of[150:][found[150:]] == np.flatnonzero(found[150:])).all()


def test_the_rule_is_calibrated_on_made_copies():
    found = calibrated(scenes(100, 4), mirrored=True)

    assert 0.9 <= found.rule.likeness <= 0.99
    assert found.rule.hashed
    assert found.recall["recompressed"] >= 0.99
    assert found.recall["mirrored"] == 1
    assert found.chance <= 0.05
    asked = calibrated(scenes(20, 4), mirrored=False, likeness=0.995)
    assert asked.rule.likeness == 0.995
    assert asked.rule.merging == pytest.approx(0.9975)


def test_the_truth_is_what_annotators_would_find():
    clean = CleanLabels(np.array([2, 0, -1, 1]))

    assert known_truth(clean, 4, 3).tolist() == [2, 0, UNKNOWN, 1]
    assert known_truth(None, 2, 3).tolist() == [UNKNOWN, UNKNOWN]


def test_types_of_noise_are_told_apart():
    crawl = crawl_of(*toy(foreign=[6]))

    assert crawl.truth[6] == FOREIGN
    assert np.flatnonzero(crawl.foreign).tolist() == [6]
    assert np.flatnonzero(crawl.wrong).tolist() == [7, 9]
    row = looked_at(crawl)["noise"][0]
    # Without the copy of a test image 11: one foreign; of the 10 others two wrong.
    assert (row["checked"], row["cross_domain"], row["cross_category"]) == (11, pytest.approx(1 / 11), 0.2)


def test_the_exact_interval_has_its_known_ends():
    # No case in m: the upper end is 1 - (alpha / 2)^(1 / m).
    low, high = clopper_pearson(0, 10)
    assert (low, high) == (0.0, pytest.approx(1 - 0.025**0.1))
    assert clopper_pearson(10, 10) == [pytest.approx(0.025**0.1), 1.0]
    # 5 of 10, from the tables: 0.1871 to 0.8129.
    assert clopper_pearson(5, 10) == [pytest.approx(0.1871, abs=1e-4), pytest.approx(0.8129, abs=1e-4)]
    assert clopper_pearson(0, 0) == [0.0, 1.0]


def test_parts_hold_what_they_say():
    crawl = crawl_of(*toy(foreign=[6], rank=[5, 4, 3, 2, 1, 9, 8, 7, 6, 0, 0, 0]))

    def nobody(rows):
        raise AssertionError

    def rows(part):
        return training_set(crawl, part, 0, nobody)[0].tolist()

    assert rows({"name": "raw"}) == list(range(12))
    assert rows({"name": "decontaminated"}) == [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11]
    assert rows({"name": "filtered"}) == [1, 2, 3, 4, 5, 6, 7]
    # Class 0 keeps rows 3 and 6 at ranks 2 and 8; class 1 rows 1, 4, 7 at 4, 1, 7; class 2 rows 2 and 5 at 3 and 9.
    assert capped(crawl, 1, "rank", 0).tolist() == [2, 3, 4]
    assert len(capped(crawl, 1, "random", 0)) == 3
    # The control loses one image of class 0 that is right, as the copy is, and no copy.
    control = without_as_many(crawl, 0)
    gone = sorted(set(range(12)) - set(control.tolist()))
    assert len(gone) == 1
    assert gone[0] in (0, 3)


def test_annotators_put_labels_right_and_send_foreign_images_away():
    crawl = crawl_of(*toy(foreign=[6]))
    quality = np.linspace(1, 0, 12)  # row 7 is doubted most, then row 6

    rows, labels, asked = training_set(
        crawl, {"name": "annotated", "budget": 2, "by": "doubtful"}, 0, lambda rows: quality[rows]
    )
    assert asked.tolist() == [6, 7]
    assert rows.tolist() == [1, 2, 3, 4, 5, 7]
    assert labels.tolist() == [1, 2, 0, 1, 2, 2]
    spread = chosen(crawl, "spread", 7, 0, lambda rows: quality[rows])
    assert spread.tolist() == [1, 2, 3, 4, 5, 6, 7]
    small, large = (set(chosen(crawl, "random", n, 5, None).tolist()) for n in (2, 5))
    assert small < large


def test_types_of_noise_are_compared_at_equal_counts():
    data, columns = toy(foreign=[6])
    crawl = crawl_of(data, columns)
    base = with_noise(crawl, "none", 0).tolist()

    # Kept: five right, one foreign, one wrong: one is added to four right ones.
    assert len(base) == 4
    for kind, added in (("cross-domain", {6}), ("cross-category", {7})):
        assert set(with_noise(crawl, kind, 0).tolist()) - set(base) == added
    assert len(with_noise(crawl, "right", 0)) == 5


def test_a_crawl_needs_a_test_set():
    data, columns = toy()
    with pytest.raises(UsageError, match="name it with --test"):
        crawl_of(Data(data.train, None, "f"), columns)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    digits = open_source("digits")
    path = tmp_path_factory.mktemp("crawl") / "crawl.npz"
    planted = write_simulated_crawl(digits, digits.test(), path, class_map="3|8,1|7", test_copies=60, several=40)
    return path, planted


def test_a_simulated_crawl_is_data_whose_faults_are_known(simulated):
    path, planted = simulated
    source = open_source(path)
    columns = read_columns(source, {"data": str(path)}, "rank", None)
    crawl = crawl_of(Data(source, open_source("digits").test(), "f"), columns)

    assert len(source) == 1437 + 100
    assert crawl.foreign.sum() == planted.foreign.sum() == len(columns.foreign)
    assert (crawl.wrong == planted.wrong).all()
    assert columns.simulated.startswith("web: 0.2 of the images of every class")
    copies = planted.test_row >= 0
    assert (crawl.fate == TEST_COPY)[copies].mean() >= 0.99
    # On 8 x 8 pixels many images look like a test image by chance, and the study says so.
    assert crawl.calibration.chance > 0.03
    # Ranks are 1, 2, ... in every class, and wrong images stand further down.
    for index in range(10):
        mine = crawl.labels == index
        assert sorted(crawl.rank[mine].tolist()) == list(range(1, mine.sum() + 1))
    assert crawl.rank[crawl.wrong].mean() > crawl.rank[~crawl.wrong & ~crawl.foreign].mean()


def test_columns_that_are_not_there_are_told(simulated, tmp_path):
    path, _ = simulated
    source = open_source(path)
    with pytest.raises(InputError, match="no column 'rnk' for --rank-column; did you mean rank"):
        read_columns(source, {"data": str(path)}, "rnk", None)
    with pytest.raises(InputError, match=r"'rank' is '\d+'; it must be true or false"):
        read_columns(source, {"data": str(path)}, None, "rank")
    digits = open_source("digits")
    with pytest.raises(UsageError, match="is no table"):
        read_columns(digits, {"data": "digits"}, "rank", None)


def test_borders_and_scales_have_the_shape_of_their_original():
    image = scenes(1, 0)[0]

    assert resized(image, 10).shape == (10, 10, 3)
    framed = bordered(image, 0.5)
    assert framed.shape == image.shape
    assert (framed[:8] == 255).all()
