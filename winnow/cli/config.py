"""Where options come from: the command line, then `WINNOW_*`, then a file, then the default.

Every command is a `ConfiguredCommand`, so that its body knows nothing of this. Keys of the file are the options' long
names, with `-` or `_`:

    seed = 1                 # every command that has the option

    [data]                   # every command that reads DATA; `address` is DATA itself
    label-column = "species"

    [train]                  # this command alone; it goes before [data] and the top
    epochs = 30

    [hyperparameters]        # --set of `winnow train`
    beta = 0.9

The `config.toml` of a run is such a file. None is looked for by itself: a folder of somebody else's images could hold
one, and options can name code to run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from winnow.errors import InputError, UsageError

PREFIX = "WINNOW_"
_DATA, _HYPERPARAMETERS = "data", "hyperparameters"
_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_NEVER = {"config", "help", "version", "install-completion", "show-completion"}


class ConfiguredCommand(TyperCommand):
    """A command whose options may also be given by the environment and by a file."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the command line over the environment over the file."""
        if ctx.resilient_parsing or not {"-h", "--help"}.isdisjoint(args):  # completion and help never fail
            return super().parse_args(ctx, args)
        typed, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        named = typed.get("config") or os.environ.get(f"{PREFIX}CONFIG")
        file = ConfigFile.read(Path(named), _commands(ctx)) if named else ConfigFile()
        parameters = {_key(parameter): parameter for parameter in self.get_params(ctx)}
        ctx.default_map = _from_file(ctx, file, parameters) | _from_environment(ctx, parameters)
        rest = super().parse_args(ctx, args)
        if "settings" in ctx.params:
            ctx.params["settings"] = [*_hyperparameters(ctx, file), *(ctx.params["settings"] or [])]
        return rest


class ConfigFile:
    """A file of options.

    Args:
        path: where it stands, for messages.
        content: its tables; empty without a file.
    """

    def __init__(self, path: Path = Path(), content: Mapping[str, Any] | None = None):
        self.path = path
        self.content = content or {}

    @classmethod
    def read(cls, path: Path, commands: Mapping[str, Any]) -> ConfigFile:
        """Reads a file and refuses names that no command knows.

        Raises:
            InputError: it cannot be read, or is no TOML.
            UsageError: it names an option or table that does not exist.
        """
        import tomllib

        if path.is_dir():
            path = path / "config.toml"
        try:
            content = tomllib.loads(path.read_bytes().decode("utf-8"))
        except OSError as error:
            raise InputError(f"--config {path}: {error.strerror}") from error
        except ValueError as error:
            raise InputError(f"{path}: not TOML: {error}") from error
        if content.get("schema_version", 1) != 1:
            raise InputError(f"{path}: written by another version of winnow")
        file = cls(path, content)
        file._refuse_unknown(commands)
        return file

    def for_command(self, command: str) -> dict[str, tuple[str, Any]]:
        """Options for a command by key, each with the place where it stands; the most particular table wins."""
        tables = (("", self._top()), (f"[{_DATA}] ", self._table(_DATA)), (f"[{command}] ", self._table(command)))
        return {
            _spelt(key): (f"{self.path}: {place}{key}", value)
            for place, table in tables
            for key, value in table.items()
        }

    def hyperparameters(self) -> dict[str, tuple[str, Any]]:
        """Values of --set by name, with their places."""
        table = self._table(_HYPERPARAMETERS)
        return {
            key.replace("-", "_"): (f"{self.path}: [{_HYPERPARAMETERS}] {key}", value) for key, value in table.items()
        }

    def _top(self) -> dict[str, Any]:
        """Options for every command. What stands at the top of a run's record are facts about the run, no options."""
        if "schema_version" in self.content:
            return {}
        return {key: value for key, value in self.content.items() if not isinstance(value, dict)}

    def _table(self, name: str) -> dict[str, Any]:
        table: dict[str, Any] = self.content.get(name, {})
        return table

    def _refuse_unknown(self, commands: Mapping[str, Any]) -> None:
        options = {name: {_key(p) for p in command.params} - _NEVER for name, command in commands.items()}
        every = set().union(*options.values())
        tables = {_DATA: every | {"address"}, **options}
        for name in self._top():
            if _spelt(name) not in every:
                raise UsageError(f"{self.path}: {name}: no command has this option{_meant(name, every)}")
        for name, value in self.content.items():
            if not isinstance(value, dict):
                continue
            if name in tables:
                for key in value:
                    if _spelt(key) not in tables[name]:
                        lacks = "no command has this" if name == _DATA else f"winnow {name} has no such"
                        raise UsageError(f"{self.path}: [{name}] {key}: {lacks} option{_meant(key, tables[name])}")
            elif name != _HYPERPARAMETERS:
                known = {*tables, _HYPERPARAMETERS}
                hint = _meant(name, known) or f"; there are {', '.join(sorted(known))}"
                raise UsageError(f"{self.path}: [{name}]: no such table{hint}")


def environment(commands: Mapping[str, Any]) -> dict[str, str | None]:
    """The `WINNOW_*` variables that are set, each with the option that it gives; None if there is none."""
    every = {_key(p) for command in commands.values() for p in _options(command.params)} - _NEVER | {"config"}
    found: dict[str, str | None] = {}
    for name in sorted(os.environ):
        if name.startswith(PREFIX):
            key = _spelt(name.removeprefix(PREFIX).lower())
            found[name] = "--root" if key == "data" else f"--{key}" if key in every else None
    return found


def _from_file(ctx: Any, file: ConfigFile, parameters: Mapping[str, Any]) -> dict[str, Any]:
    given = file.for_command(_table_of(ctx))
    if "address" in given:
        given["data"] = given.pop("address")
    return {
        parameters[key].name: _checked(ctx, parameters[key], value, place)
        for key, (place, value) in given.items()
        if key in parameters and key not in _NEVER
    }


def _from_environment(ctx: Any, parameters: Mapping[str, Any]) -> dict[str, Any]:
    result = {}
    for parameter in _options(parameters.values()):
        key = _key(parameter)
        variable = PREFIX + key.replace("-", "_").upper()
        text = os.environ.get(variable)
        if text and key not in _NEVER and variable != f"{PREFIX}DATA":  # that is where built-in collections lie
            value: Any = text
            if parameter.is_flag:
                value = _WORDS.get(text.lower(), text)
            elif parameter.multiple:
                value = text.split()
            result[parameter.name] = _checked(ctx, parameter, value, variable)
    return result


def _checked(ctx: Any, parameter: Any, value: Any, place: str) -> Any:
    """A value as if it had been typed.

    Raises:
        UsageError: it is of another type than the option.
    """
    if getattr(parameter, "is_flag", False):
        if not isinstance(value, bool):
            raise UsageError(f"{place} = {_shown(value)}: must be true or false")
        return value
    many = bool(getattr(parameter, "multiple", False))
    items = value if many and isinstance(value, list) else [value]
    for item in items:
        if isinstance(item, (bool, list, dict)):
            raise UsageError(f"{place} = {_shown(value)}: must be one value")
    texts = [_text(item) for item in items]
    try:
        parameter.process_value(ctx, texts if many else texts[0])
    except typer.BadParameter as error:
        reason = " ".join(error.message.split()).rstrip(".")
        raise UsageError(f"{place} = {_shown(value)}: {reason[:1].lower()}{reason[1:]}") from error
    return texts if many else texts[0]


def _hyperparameters(ctx: Any, file: ConfigFile) -> list[str]:
    """The file's hyperparameters as --set would give them; they belong to the method that the file names."""
    method = file.for_command(_table_of(ctx)).get("method")
    if file.hyperparameters() and method is not None and method[1] != ctx.params.get("method"):
        if not ctx.params.get("quiet"):
            typer.echo(
                f"Note     {file.path}: its [{_HYPERPARAMETERS}] belong to {method[1]} and are left away", err=True
            )
        return []
    texts = []
    for name, (place, value) in file.hyperparameters().items():
        if isinstance(value, (list, dict)):
            raise UsageError(f"{place} = {_shown(value)}: must be one value")
        texts.append(f"{name}={_text(value)}")
    return texts


def _commands(ctx: Any) -> Mapping[str, Any]:
    """Every command by the name of its table: `study mislabel` has `[study-mislabel]`."""
    return commands_of(ctx.find_root().command) or {ctx.info_name: ctx.command}


def commands_of(group: Any, above: str = "") -> dict[str, Any]:
    """The commands of a group and of the groups in it, by the name of their tables."""
    found: dict[str, Any] = {}
    for name, command in getattr(group, "commands", {}).items():
        found |= commands_of(command, f"{above}{name}-") or {f"{above}{name}": command}
    return found


def _table_of(ctx: Any) -> str:
    return "-".join(ctx.command_path.split()[1:]) or str(ctx.info_name)


def _options(parameters: Any) -> list[Any]:
    return [parameter for parameter in parameters if parameter.param_type_name == "option"]


def _key(parameter: Any) -> str:
    """The name that people type: `--set` is the parameter `settings`."""
    if parameter.param_type_name == "argument":
        return _spelt(parameter.name)
    return max(parameter.opts, key=len).lstrip("-")


def _spelt(key: str) -> str:
    return key.replace("_", "-")


def _meant(key: str, known: Sequence[str] | set[str]) -> str:
    near = get_close_matches(_spelt(key), sorted(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _shown(value: Any) -> str:
    """A value as it stands in the file."""
    return json.dumps(value) if isinstance(value, (str, bool, list)) else str(value)


def _text(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
