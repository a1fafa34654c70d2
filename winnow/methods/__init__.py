"""The table of methods: one paper, one file, one line here."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from winnow.errors import UsageError
from winnow.methods.base import Method
from winnow.methods.bootstrap import BootstrapHard, BootstrapReconstruction, BootstrapSharp, BootstrapSoft
from winnow.methods.cleannet import CleanNet
from winnow.methods.cross_entropy import CrossEntropy
from winnow.methods.distillation import Distillation
from winnow.methods.importance_reweighting import ImportanceReweighting
from winnow.methods.label_refinery import LabelRefinery
from winnow.methods.label_smoothing import LabelSmoothing
from winnow.methods.mlnt import MLNT
from winnow.methods.nlnl import NLNL
from winnow.methods.noise_layer import NoiseLayer
from winnow.methods.open_set import OpenSet
from winnow.methods.quality_embedding import QualityEmbedding
from winnow.methods.self_learning import SelfLearning
from winnow.methods.transition import Backward, Forward
from winnow.methods.winnow import Winnow

METHODS: Mapping[str, type[Method]] = {
    method.name: method
    for method in (
        CrossEntropy,
        LabelSmoothing,
        BootstrapSoft,
        BootstrapHard,
        BootstrapSharp,
        BootstrapReconstruction,
        Forward,
        Backward,
        ImportanceReweighting,
        LabelRefinery,
        NoiseLayer,
        QualityEmbedding,
        Distillation,
        CleanNet,
        NLNL,
        SelfLearning,
        OpenSet,
        MLNT,
        Winnow,
    )
}


def find_method(name: str) -> type[Method]:
    """The class of a method: a name of the table, or `path/file.py:Class`.

    Raises:
        UsageError: there is none; the message says what was meant, perhaps.
    """
    if name in METHODS:
        return METHODS[name]
    if ".py:" in name:
        return _from_file(*name.rsplit(":", 1))
    near = difflib.get_close_matches(name, METHODS, n=1)
    hint = f"; did you mean {near[0]}?" if near else f" ({', '.join(METHODS)})"
    raise UsageError(f"--method {name}: no such method{hint}")


def hyperparameters(method: type[Method]) -> dict[str, inspect.Parameter]:
    """The keyword arguments of a method, in order."""
    signature = inspect.signature(method.__init__, eval_str=True)
    return {n: p for n, p in signature.parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def parsed_hyperparameters(method: type[Method], given: Mapping[str, Any]) -> dict[str, Any]:
    """Checks names and types of hyperparameters; text values are read as the type that the signature states.

    Raises:
        UsageError: an unknown name (with what was meant, perhaps) or a value of another type.
    """
    known = hyperparameters(method)
    label = getattr(method, "name", method.__name__)
    result = {}
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = (
                f"; did you mean {near[0]}?"
                if near
                else f"; it takes {', '.join(known) or 'none'} (--method names another method)"
            )
            raise UsageError(f"--set {name}: {label} has no such hyperparameter{hint}")
        result[name] = _parsed(name, value, known[name].annotation)
    return result


def build(method: type[Method], problem: Any, given: Mapping[str, Any]) -> Method:
    """A method with its hyperparameters.

    Raises:
        UsageError: a hyperparameter lies outside its range.
    """
    try:
        return method(problem, **given)
    except ValueError as error:
        raise UsageError(f"--set {error}") from error


def _parsed(name: str, value: Any, kind: Any) -> Any:
    if kind is bool:
        words = {
            "true": True,
            "yes": True,
            "on": True,
            "1": True,
            "false": False,
            "no": False,
            "off": False,
            "0": False,
        }
        if isinstance(value, bool):
            return value
        if str(value).lower() in words:
            return words[str(value).lower()]
        raise UsageError(f"--set {name}={value}: must be true or false")
    if kind in (int, float):
        try:
            number = kind(value)
            # A fraction is not cut to a whole number, and nan is none.
            if (isinstance(value, float) and number != value) or number != number:
                raise ValueError
            return number
        except (TypeError, ValueError, OverflowError):
            raise UsageError(
                f"--set {name}={value}: must be {'a whole number' if kind is int else 'a number'}"
            ) from None
    return value


def _from_file(path: str, class_name: str) -> type[Method]:
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"--method {path}: no such file")
    spec = importlib.util.spec_from_file_location(f"winnow_user_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"--method {path}: {type(error).__name__}: {error}") from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise UsageError(f"--method {path}:{class_name}: the file has no Method of that name")
    if "name" not in vars(found):
        found.name = class_name
    if not hasattr(found, "title"):
        found.title = class_name
    return found
