"""Small run folders, fabricated from scikit-learn's digits, and what every page has to fulfil."""

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from winnow.report.page import CONTENT_SECURITY_POLICY, LARGEST_PAGE

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{7*7}}",
    "{% raw %}",
    "${7*7}",
    "</style></svg></title>",
    "w" * 200,
    "\u202egnp.exe",
    "line\nbreak",
    "javascript:alert(1)",
    "=1+1",
    "\u0645\u0644\u0641",
]

VOID = {"meta", "link", "br", "img", "input", "hr"}
ADDRESSES = {"src", "href", "action", "data", "poster", "srcset", "xlink:href", "background"}


class FakeRun:
    """A run folder as the trainer leaves it, with whatever a test wants changed."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()

    def write(
        self,
        given,
        suggested,
        *,
        names,
        quality=None,
        ids=None,
        reasons=None,
        epochs=4,
        test="digits-test",
        quarantine=(),
        **changes,
    ) -> Path:
        given, suggested = np.asarray(given, int), np.asarray(suggested, int)
        number, classes = len(given), len(names)
        doubted = (given != suggested) & (given >= 0)
        quality = np.where(doubted, 0.05, 0.95) if quality is None else np.asarray(quality)
        table = pa.table(
            {
                "id": ids or [f"{row:05d}.png" for row in range(number)],
                "given_label": pa.array([None if g < 0 else int(g) for g in given], pa.int32()),
                "label_quality": quality,
                "suggested_label": pa.array(suggested, pa.int32()),
                "suggested_probability": np.where(doubted, 0.9, 0.95),
                "outlier_score": np.zeros(number),
                "duplicate_group": pa.nulls(number, pa.int32()),
                "is_issue": doubted,
                "issues": [["wrong_label"] if flag else [] for flag in doubted],
                "issue": pa.array(["wrong_label" if flag else None for flag in doubted], pa.string()),
                "reason": reasons or [None] * number,
            }
        )
        metadata = {"class_names": json.dumps(list(names))}
        pq.write_table(table.replace_schema_metadata(metadata), self.folder / "labels.parquet")
        believed = np.where(doubted, suggested, given)
        labelled = given >= 0
        summary = {
            "schema_version": 1,
            "command": "winnow train digits",
            "version": "0.1.0",
            "method": "winnow",
            "method_title": "The default",
            "run": "runs/a",
            "data": "digits",
            "test": test,
            "epochs": epochs,
            "seed": 0,
            "model": "convnet",
            "image_size": 8,
            "device": "cpu",
            "precision": "float32",
            "threads": 1,
            "num_images": number,
            "num_classes": classes,
            "class_names": list(names),
            "quarantined": len(quarantine),
            "unlabelled": int((~labelled).sum()),
            "held_out": 10,
            "test_accuracy_last": 0.907 if test else None,
            "test_accuracy_best": 0.912 if test else None,
            "best_epoch": 3 if test else None,
            "num_test": 1000 if test else None,
            "given_label_agreement": 0.614,
            "num_doubted": int(doubted.sum()),
            "seconds": 72.3,
            "images_per_second": 8123.4,
            "hyperparameters": {"beta": 0.95},
            "settings": {"batch_size": 128},
            "per_class": [
                {
                    "name": name,
                    "images": int((given == index).sum()),
                    "doubted": int((doubted & (given == index)).sum()),
                    "suggested_images": int((believed == index).sum()),
                    "test_images": 100 if test else None,
                    "test_accuracy": 0.9 if test else None,
                }
                for index, name in enumerate(names)
            ],
        }
        if classes <= 200:
            matrix = np.zeros((classes, classes), int)
            np.add.at(matrix, (believed[labelled], given[labelled]), 1)
            summary["suggested_by_given"] = {"rows": "believed", "matrix": matrix.tolist()}
        (self.folder / "summary.json").write_text(json.dumps(summary | changes))
        with open(self.folder / "metrics.jsonl", "w") as file:
            for epoch in range(1, epochs + 1):
                line = {
                    "epoch": epoch,
                    "phase": "warm up" if epoch == 1 else "doubt labels",
                    "learning_rate": 0.1,
                    "loss": 2.0 / epoch,
                    "terms": {"bootstrap": 1.5 / epoch, "entropy": 0.5 / epoch},
                    "given_label_agreement": 0.5 + 0.02 * epoch,
                    "validation_agreement": 0.5,
                    "test_accuracy": 0.887 + 0.005 * epoch if test else None,
                    "seconds": 1.0,
                    "images_per_second": 1000.0,
                    "log": {"beta": 1.5},
                }
                file.write(json.dumps(line) + "\n")
        if quarantine:
            rows = [
                {"row": row, "id": id, "code": code, "reason": reason}
                for row, (id, code, reason) in enumerate(quarantine)
            ]
            pq.write_table(pa.Table.from_pylist(rows), self.folder / "quarantine.parquet")
        return self.folder


@pytest.fixture
def fake_run(tmp_path) -> FakeRun:
    return FakeRun(tmp_path / "run")


@pytest.fixture(scope="session")
def digit_images() -> np.ndarray:
    from sklearn.datasets import load_digits

    return (load_digits().images * (255 / 16)).astype(np.uint8)[..., None]


@pytest.fixture
def digits_run(fake_run) -> Path:
    """200 digits, every fifth label wrong: 40 doubted."""
    from sklearn.datasets import load_digits

    truth = load_digits().target[:200]
    given = np.where(np.arange(200) % 5 == 0, (truth + 1) % 10, truth)
    return fake_run.write(
        given,
        truth,
        names=list("0123456789"),
        label_quality_auroc=0.953,
        corrected_label_accuracy=0.985,
        given_label_accuracy=0.8,
        num_wrong=40,
        quarantine=[("bad.png", "empty", "0 bytes")],
    )


class PageReader(HTMLParser):
    """Nesting, elements, attributes and text of a page."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict]] = []
        self.mistakes: list[str] = []
        self.parts: list[str] = []
        self.feed(html)
        self.close()
        self.mistakes += [f"<{tag}> is never closed" for tag in self.open]

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open[-1] != tag:
            self.mistakes.append(f"</{tag}> at {self.getpos()} closes {self.open[-1:]}")
        else:
            self.open.pop()

    def handle_data(self, data):
        if "style" not in self.open:
            self.parts.append(data)

    @property
    def text(self) -> str:
        """The page's words, spaces made one."""
        return re.sub(r"\s+", " ", "".join(self.parts)).replace("\u2068", "").replace("\u2069", "")

    def of(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def checked_page(html: str) -> PageReader:
    """The page, after asserting what holds for all of them."""
    page = PageReader(html)
    assert page.mistakes == []
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "iframe", "object", "embed", "form", "base", "foreignobject"}
    policy = [meta["content"] for meta in page.of("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy == [CONTENT_SECURITY_POLICY]
    for tag, attributes in page.elements:
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        for name in ADDRESSES & set(attributes):
            assert attributes[name].startswith(("#", "data:")), (tag, name, attributes[name])
    assert "url(" not in html
    assert "@import" not in html
    targets = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link["href"][1:] for link in page.of("a")} <= targets
    headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert headings.count(1) == 1
    assert headings[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(headings))
    for tag, attributes in page.elements:
        if tag == "svg":
            assert attributes["role"] == "img"
        if tag == "img":
            assert attributes["alt"]
    assert len(html.encode()) < LARGEST_PAGE
    assert not re.search(r"\d %", html), "a number may part from its % at a line break"
    assert "nan" not in re.findall(r"\b\w+\b", page.text)
    return page


@pytest.fixture(scope="session")
def read():
    """A page of a file, parsed and checked."""
    return lambda path: checked_page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def hostile_names() -> list[str]:
    return HOSTILE
