"""One thread, no network, annotated shapes enforced, research data only where it is."""

import importlib.util
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from jaxtyping import install_import_hook

# No setting of the person who runs the tests may change them.
for _name in [name for name in os.environ if name.startswith("WINNOW_") and name != "WINNOW_DATA"]:
    del os.environ[_name]

# The network is refused to this process here, and to those that tests start by PYTHONPATH.
_OFFLINE = Path(__file__).parent / "offline"
_earlier = os.environ.get("PYTHONPATH", "").split(os.pathsep)
if str(_OFFLINE) not in _earlier:
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_OFFLINE), *_earlier]))
    _spec = importlib.util.spec_from_file_location("winnow_tests_offline", _OFFLINE / "sitecustomize.py")
    assert _spec is not None
    assert _spec.loader is not None
    _spec.loader.exec_module(importlib.util.module_from_spec(_spec))

# Annotated shapes are checked in every test; a wrong shape is an error, not a broadcast.
install_import_hook(
    [
        "winnow.functional",
        "winnow.models",
        "winnow.methods",
        "winnow.noise.estimate",
        "winnow.data.views",
        "winnow.train.passes",
    ],
    "beartype.beartype",
)


@pytest.fixture(scope="session")
def research_data() -> Path:
    folder = os.environ.get("WINNOW_DATA")
    if not folder or not (Path(folder) / "cifar10_train.parquet").exists():
        pytest.skip("WINNOW_DATA is not set: the research data is not here")
    return Path(folder)
