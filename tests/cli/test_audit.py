"""`winnow audit` as a person types it: what is found, what is told, what is left alone."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import winnow
from tests.cli.test_cli import run
from winnow.data.open import open_source


@pytest.fixture(scope="module")
def noisy(tmp_path_factory) -> Path:
    """Digits, a fifth of the labels wrong, the truth beside."""
    path = tmp_path_factory.mktemp("data") / "digits.parquet"
    assert (
        run("noise", "digits", "--kind", "symmetric", "--rate", "0.2", "--limit", "700", "--out", path, "--quiet") == 0
    )
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Digits as PNGs by class, with a wrong label, a copy under another class, an empty file and a name of HTML."""
    root = tmp_path_factory.mktemp("pictures")
    digits = open_source("digits")
    for row in range(240):
        label = int(digits.noisy_labels[row])
        place = root / str((label + 1) % 10 if row == 7 else label)
        place.mkdir(exist_ok=True)
        Image.fromarray(digits.pictures.read(row)).resize((32, 32)).save(place / f"{row:04d}.png")
    first = root / str(digits.noisy_labels[0]) / "0000.png"
    other = root / str((digits.noisy_labels[0] + 1) % 10)
    (other / "<script>alert(1)<.png").write_bytes(first.read_bytes())
    (other / "empty.png").write_bytes(b"")
    return root


def state(root: Path) -> dict[str, str]:
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in sorted(root.rglob("*")) if path.is_file()}


def test_wrong_labels_are_found_and_measured_against_the_truth(noisy, tmp_path, capsys):
    assert run("audit", noisy, "--out", tmp_path / "a", "--json") == 0

    summary = json.loads(capsys.readouterr().out)
    assert summary["num_images"] == 700
    assert summary["wrong_label_f1"] > 0.93
    assert summary["wrong_label_ap"] > 0.98
    low, high = summary["estimated_noise_rate_interval"]
    assert low <= summary["estimated_noise_rate"] <= high
    assert abs(summary["estimated_noise_rate"] - 0.2) < 0.03
    assert json.loads((tmp_path / "a" / "summary.json").read_text()) == summary
    labels = pq.read_table(tmp_path / "a" / "labels.parquet")
    assert labels.num_rows == 700
    findings = pq.read_table(tmp_path / "a" / "findings.parquet")
    assert (
        findings["kind"].to_pylist().count("wrong_label") == summary["num_flagged"] == summary["counts"]["wrong_label"]
    )
    assert sum(labels["is_issue"].to_pylist()) == summary["num_issues"]


def test_a_folder_is_left_as_it_was_and_every_file_has_its_place(folder, tmp_path, capsys):
    before = state(folder)

    assert run("audit", folder, "--out", tmp_path / "a", "--quiet") == 0

    assert state(folder) == before
    assert capsys.readouterr().out == ""
    rows = pq.read_table(tmp_path / "a" / "labels.parquet").to_pylist()
    assert len(rows) == 242
    by_id = {row["id"]: row for row in rows}
    [broken] = [row for row in rows if "unreadable" in row["issues"]]
    assert broken["id"].endswith("empty.png")
    [wrong] = [row for row in rows if row["id"].endswith("0007.png")]
    assert wrong["issue"] == "wrong_label"
    copies = [row for row in rows if row["duplicate_group"] is not None]
    assert {Path(row["id"]).name for row in copies} == {"0000.png", "<script>alert(1)<.png"}
    assert all("conflicting_duplicate" in row["issues"] for row in copies)
    page = (tmp_path / "a" / "report.html").read_text()
    assert "<script" not in page
    assert by_id


def test_the_same_seed_gives_the_same_tables(noisy, tmp_path):
    for name in ("a", "b"):
        assert run("audit", noisy, "--out", tmp_path / name, "--quiet", "--limit", "300") == 0

    for file in ("labels.parquet", "findings.parquet"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_findings_can_fail_a_pipeline(folder, tmp_path, capsys):
    assert run("audit", folder, "--out", tmp_path / "a", "--quiet", "--fail-on", "unreadable") == 3
    assert run("audit", folder, "--out", tmp_path / "b", "--quiet", "--fail-on", "test_leak") == 0
    assert run("audit", folder, "--out", tmp_path / "c", "--quiet", "--fail-on", "leak") == 2
    assert "one of wrong_label, " in capsys.readouterr().err


def test_an_audit_is_not_overwritten_unasked(noisy, tmp_path, capsys):
    out = tmp_path / "a"
    assert run("audit", noisy, "--out", out, "--quiet", "--limit", "200") == 0
    before = state(out)

    assert run("audit", noisy, "--out", out, "--quiet", "--limit", "200") == 4

    assert "holds an audit already" in capsys.readouterr().err
    assert state(out) == before
    assert run("audit", noisy, "--out", out, "--quiet", "--limit", "200", "--force") == 0
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    assert run("audit", noisy, "--out", tmp_path / "full", "--quiet", "--force") == 4


def test_nothing_that_is_read_is_overwritten(folder, tmp_path, capsys):
    before = state(folder)
    assert run("audit", folder, "--out", folder / "audit", "--quiet") == 4
    assert "lies in" in capsys.readouterr().err
    assert state(folder) == before
    assert not (folder / "audit").exists()
    (tmp_path / "a-file").write_text("x")
    assert run("audit", folder, "--out", tmp_path / "a-file", "--quiet", "--force") == 4
    assert "is a file" in capsys.readouterr().err


def test_a_blind_sample_that_was_filled_in_is_kept(noisy, tmp_path, capsys):
    out = tmp_path / "a"
    assert run("audit", noisy, "--limit", "200", "--out", out, "--quiet", "--blind", "5") == 0
    sample = out / "blind.csv"
    head, *rows = sample.read_text().splitlines()
    sample.write_text("\n".join([head, *(row + row.split(",")[1] for row in rows)]) + "\n")
    filled = sample.read_bytes()

    assert run("audit", noisy, "--limit", "200", "--out", out, "--quiet", "--force") == 4
    assert "has been filled in" in capsys.readouterr().err
    assert run("audit", noisy, "--limit", "200", "--verified", sample, "--out", out, "--quiet", "--force") == 4
    assert sample.read_bytes() == filled


def test_weak_features_are_told(tmp_path, capsys):
    random = np.random.default_rng(0)
    np.savez(tmp_path / "noise.npz", x=random.integers(0, 256, (120, 8, 8), dtype=np.uint8), y=np.arange(120) % 4)

    assert run("audit", tmp_path / "noise.npz", "--out", tmp_path / "a", "--json", "--budget", "0") == 0

    out, err = capsys.readouterr()
    kinds = [remark["kind"] for remark in json.loads(out)["remarks"]]
    assert "weak_features" in kinds
    assert "share its label" in err


def test_an_audit_with_images_outside_of_classes_can_be_exported(folder, tmp_path):
    import shutil

    root = tmp_path / "copy"
    shutil.copytree(folder, root)
    shutil.copy(next((root / "0").glob("*.png")), root / "stray.png")
    assert run("audit", root, "--out", tmp_path / "a", "--quiet") == 0

    assert run("export", tmp_path / "a", "--to", "csv", "--out", tmp_path / "t.csv", "--quiet") == 0


def test_test_images_among_the_collection_are_told(tmp_path, capsys):
    assert run("audit", "digits:test", "--test", "digits:test", "--out", tmp_path / "a", "--json") == 0

    assert json.loads(capsys.readouterr().out)["counts"]["test_leak"] == 360


def test_verified_labels_are_never_flagged(noisy, tmp_path):
    assert run("audit", noisy, "--out", tmp_path / "a", "--quiet") == 0
    found = pq.read_table(tmp_path / "a" / "labels.parquet").to_pylist()
    checked = [row["id"] for row in found if row["issue"] == "wrong_label"][:20]
    (tmp_path / "checked.csv").write_text("id\n" + "\n".join(checked) + "\n")

    assert run("audit", noisy, "--verified", tmp_path / "checked.csv", "--out", tmp_path / "b", "--quiet") == 0

    again = {row["id"]: row for row in pq.read_table(tmp_path / "b" / "labels.parquet").to_pylist()}
    assert not any(again[name]["is_issue"] for name in checked)
    assert all(again[name]["label_quality"] == 1 for name in checked)


def test_a_blind_sample_is_drawn_among_what_is_not_flagged_and_read_back(noisy, tmp_path, capsys):
    assert run("audit", noisy, "--out", tmp_path / "a", "--quiet", "--blind", "10") == 0
    flagged = {
        row["id"]
        for row in pq.read_table(tmp_path / "a" / "labels.parquet").to_pylist()
        if row["issue"] == "wrong_label"
    }
    head, *rows = (tmp_path / "a" / "blind.csv").read_text().splitlines()
    assert head == "id,given_label,label"
    assert len(rows) == 10
    assert flagged.isdisjoint(row.split(",")[0] for row in rows)
    filled = [row + row.split(",")[1] for row in rows]
    (tmp_path / "blind.csv").write_text("\n".join([head, *filled]) + "\n")

    assert run("audit", noisy, "--out", tmp_path / "b", "--verified", tmp_path / "blind.csv", "--json") == 0

    blind = json.loads(capsys.readouterr().out)["blind"]
    assert (blind["checked"], blind["wrong"], blind["low"]) == (10, 0, 0.0)
    assert blind["high"] == pytest.approx(1 - 0.05**0.1)


def test_new_images_are_judged_by_those_of_an_earlier_audit(tmp_path, capsys):
    assert run("audit", "digits", "--limit", "600", "--out", tmp_path / "old", "--quiet") == 0
    assert (
        run(
            "noise", "digits:test", "--kind", "symmetric", "--rate", "0.3", "--out", tmp_path / "new.parquet", "--quiet"
        )
        == 0
    )
    capsys.readouterr()

    assert run("audit", tmp_path / "new.parquet", "--against", tmp_path / "old", "--out", tmp_path / "a", "--json") == 0

    summary = json.loads(capsys.readouterr().out)
    assert summary["num_images"] == 360
    assert summary["wrong_label_f1"] > 0.9
    assert abs(summary["estimated_noise_rate"] - 0.3) < 0.06
    assert summary["against"]["num_images"] == 600
    assert pq.read_table(tmp_path / "a" / "labels.parquet").num_rows == 360


def test_the_consensus_of_several_people_is_audited(tmp_path):
    digits = open_source("digits", limit=400)
    random = np.random.default_rng(0)
    table = {"id": digits.ids, "image": [png(digits.pictures.read(row)) for row in range(400)]}
    import pyarrow as pa

    for name, rate in (("anna", 0.05), ("ben", 0.2), ("carla", 0.5)):
        wrong = random.random(400) < rate
        table[name] = np.where(wrong, (digits.noisy_labels + random.integers(1, 10, 400)) % 10, digits.noisy_labels)
    table["label"] = digits.noisy_labels
    pq.write_table(pa.table(table), tmp_path / "people.parquet")
    source = winnow.open_source(tmp_path / "people.parquet", label_column="anna")

    found = winnow.audit(source, annotators=["anna", "ben", "carla"])

    quality = {person["name"]: person["quality"] for person in found.summary["annotators"]}
    assert quality["anna"] > quality["ben"] > quality["carla"]
    given = np.array(found.labels["given_label"].to_pylist())
    assert (given == digits.noisy_labels).mean() > max(
        (table[name] == digits.noisy_labels).mean() for name in quality
    ) - 0.02


def png(pixels: np.ndarray) -> bytes:
    import io

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_very_few_images_are_no_accident(tmp_path, number, capsys):
    assert run("audit", "digits", "--limit", number, "--out", tmp_path / "a", "--json") == 0

    assert json.loads(capsys.readouterr().out)["num_images"] == number


def test_no_images_and_none_that_can_be_read_are_told_in_a_line(tmp_path, capsys):
    (tmp_path / "nothing" / "a").mkdir(parents=True)
    assert run("audit", tmp_path / "nothing", "--out", tmp_path / "x") == 4
    (tmp_path / "broken" / "a").mkdir(parents=True)
    (tmp_path / "broken" / "a" / "1.png").write_bytes(b"")
    assert run("audit", tmp_path / "broken", "--out", tmp_path / "y") == 4
    assert "none of the 1 images can be used" in capsys.readouterr().err
    assert not (tmp_path / "y").exists()


def test_images_without_labels_are_looked_at_all_the_same(tmp_path, capsys):
    digits = open_source("digits", limit=60)
    root = tmp_path / "pictures"
    root.mkdir()
    for row in range(60):
        Image.fromarray(digits.pictures.read(row)).save(root / f"{row}.png")
    (root / "copy.png").write_bytes((root / "3.png").read_bytes())

    assert run("audit", root, "--out", tmp_path / "a", "--json") == 0

    summary = json.loads(capsys.readouterr().out)
    assert summary["counts"]["exact_duplicate"] == 1
    assert summary["estimated_noise_rate"] is None
