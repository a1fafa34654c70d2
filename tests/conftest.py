"""One thread, annotated shapes enforced, research data only where it is."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Annotated shapes are checked in every test; a wrong shape is an error, not a broadcast.
install_import_hook(
    ["winnow.models", "winnow.methods", "winnow.noise.estimate", "winnow.data.views", "winnow.train.passes"],
    "beartype.beartype",
)


@pytest.fixture(scope="session")
def research_data() -> Path:
    folder = os.environ.get("WINNOW_DATA")
    if not folder or not (Path(folder) / "cifar10_train.parquet").exists():
        pytest.skip("WINNOW_DATA is not set: the research data is not here")
    return Path(folder)
