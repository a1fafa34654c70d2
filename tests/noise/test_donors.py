"""Foreign images: whose they are, what they look like, and that no others change."""

from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.stats import kstest, norm

from winnow.data.open import open_source
from winnow.errors import InputError, UsageError
from winnow.noise.donors import donor_rows
from winnow.noise.kinds import make_noise
from winnow.noise.noisy_source import noisy_source
from winnow.noise.write import write_noisy


def png(pixels):
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(count, seed, shape=(12, 12, 3)):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def folder(path, classes, seed, shape=(12, 12, 3), count=10):
    for place, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for row, pixels in enumerate(pictures(count, seed + place, shape)):
            (path / name / f"{row}.png").write_bytes(png(pixels))
    return path


@pytest.fixture
def photos(tmp_path):
    return folder(tmp_path / "photos", ["cat", "dog"], 0)


@pytest.fixture
def others(tmp_path):
    return folder(tmp_path / "others", ["Cat", "map", "t-shirt"], 50, (20, 30, 3))


def test_donors_of_a_class_that_the_target_has_are_never_used(others):
    donors = open_source(others)

    rows = donor_rows(donors, ("cat", "T shirt"))

    assert {donors.class_names[label] for label in donors.noisy_labels[rows]} == {"map"}
    with pytest.raises(InputError, match="every class there is a class here too"):
        donor_rows(donors, ("cat", "map", "t_shirt"))


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_files_of_two_folders_come_into_one_table_by_their_paths(photos, others, tmp_path, ending):
    source, donors = open_source(photos), open_source(others)
    made = make_noise(source, "open-set", 0.4, donor=donors, seed=1)
    out = tmp_path / f"noisy{ending}"

    write_noisy(source, made, out)
    copy = open_source(out)

    assert made.foreign.sum() == 8
    foreign = {donors.pictures.read(row).tobytes() for row in range(len(donors)) if donors.noisy_labels[row] != 0}
    for row in range(20):
        pixels = copy.pictures.read(row)
        if made.foreign[row]:
            assert pixels.tobytes() in foreign
        else:
            assert (pixels == source.pictures.read(row)).all()
    assert (copy.noisy_labels == source.noisy_labels).all()
    # A foreign image has no true class: no label there is counted as right or wrong.
    assert not copy.clean_labels.wrong((copy.noisy_labels + 1) % 2)[made.foreign].any()
    assert copy.clean_labels.wrong((copy.noisy_labels + 1) % 2)[~made.foreign].all()


def test_files_beside_made_images_stay_files(photos, tmp_path):
    source = open_source(photos)
    made = make_noise(source, "open-set", 0.5, donor="uniform")
    out = tmp_path / "noisy.parquet"

    write_noisy(source, made, out)
    stored = pq.read_table(out)
    copy = open_source(out)

    assert stored["foreign"].to_pylist() == made.foreign.tolist()
    assert [value["bytes"] is not None for value in stored["image"].to_pylist()] == made.foreign.tolist()
    assert [label is None for label in stored["label"].to_pylist()] == made.foreign.tolist()
    for row in range(20):
        assert (copy.pictures.read(row) == made.pictures.read(row)).all()
        assert (copy.pictures.read(row) == source.pictures.read(row)).all() == (not made.foreign[row])
    with pytest.raises(InputError, match="foreign images are no files"):
        write_noisy(source, made, tmp_path / "noisy.csv")


@pytest.mark.parametrize("ending", [".npz", ".parquet"])
def test_arrays_take_donors_of_another_size_and_colour(others, tmp_path, ending):
    source = open_source("digits", limit=40)
    made = make_noise(source, "open-set", 0.25, donor=open_source(others))
    out = tmp_path / f"noisy{ending}"

    write_noisy(source, made, out)
    copy = open_source(out)

    assert 8 <= made.foreign.sum() <= 12
    assert copy.grey
    for row in range(40):
        pixels = copy.pictures.read(row)
        assert pixels.shape == (8, 8, 3)
        assert (pixels == source.pictures.read(row)).all() == (not made.foreign[row])
    again = noisy_source(source, made)
    assert all((again.pictures.read(row) == copy.pictures.read(row)).all() for row in range(40))


def test_encoded_pictures_keep_their_bytes(tmp_path):
    own, strange = [png(each) for each in pictures(20, 1)], [png(each) for each in pictures(20, 2)]
    pq.write_table(pa.table({"image": own, "label": ["a", "b"] * 10}), tmp_path / "own.parquet")
    pq.write_table(pa.table({"image": strange, "label": ["c"] * 20}), tmp_path / "strange.parquet")
    source = open_source(tmp_path / "own.parquet")
    made = make_noise(source, "open-set", 0.5, donor=open_source(tmp_path / "strange.parquet"))

    write_noisy(source, made, tmp_path / "noisy.parquet")
    stored = pq.read_table(tmp_path / "noisy.parquet")["image"].to_pylist()

    assert [strange[donor] if donor >= 0 else own[row] for row, donor in enumerate(made.donor_rows)] == stored


def test_made_images_are_what_their_names_say(photos):
    source = open_source(photos)

    def foreign_pixels(kind):
        made = make_noise(source, "open-set", 1.0, donor=kind)
        return np.stack([made.pictures.read(row) for row in range(20)])

    uniform, gaussian, blurred = map(foreign_pixels, ("uniform", "gaussian", "blurred"))

    assert kstest((uniform.ravel() + 0.5) / 256, "uniform").pvalue > 1e-6
    assert gaussian.mean() == pytest.approx(127, abs=2)
    assert (gaussian < 128).mean() == pytest.approx(0.5, abs=0.02)
    assert (gaussian < 64).mean() == pytest.approx(norm.cdf(-1), abs=0.02)
    originals = np.stack([source.pictures.read(row) for row in range(20)])
    assert (blurred.std(axis=(1, 2)) < 0.5 * originals.std(axis=(1, 2))).all()
    assert blurred.mean() == pytest.approx(originals.mean(), abs=3)
    assert (foreign_pixels("uniform") == uniform).all()


def test_made_images_of_grey_collections_are_grey():
    made = make_noise(open_source("digits", limit=20), "open-set", 1.0, donor="gaussian")

    assert all((made.pictures.read(row)[..., 0] == made.pictures.read(row)[..., 2]).all() for row in range(20))


def test_no_noise_leaves_the_pictures_alone(photos, others):
    assert make_noise(open_source(photos), "open-set", 0.0, donor=open_source(others)).pictures is None
    assert make_noise(open_source(photos), "open-set", 0.0, donor="blurred").pictures is None


def test_web_noise_of_a_folder_reports_both_rates(photos, others, tmp_path):
    source = open_source(photos)
    made = make_noise(source, "web", 0.2, class_map="cat|dog", foreign_rate=0.3, donor=open_source(others))

    write_noisy(source, made, tmp_path / "noisy.csv")
    copy = open_source(tmp_path / "noisy.csv")

    assert made.realised_rates == {"foreign": 0.3, "wrong_class": 0.2}
    assert copy.clean_labels.wrong(copy.noisy_labels).sum() == 4
    with pytest.raises(UsageError, match="needs --foreign-rate"):
        make_noise(source, "web", 0.2, class_map="cat|dog", donor="uniform")
    with pytest.raises(UsageError, match="needs --donor"):
        make_noise(source, "open-set", 0.2)
