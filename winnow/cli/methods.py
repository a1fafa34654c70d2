"""`winnow methods`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from winnow.cli import options
from winnow.cli.completion import method_names


def methods(
    name: Annotated[str | None, typer.Argument(help="One method, in full.", autocompletion=method_names)] = None,
    json_output: options.Json = False,
    config: options.Config = None,
    debug: options.Debug = False,
) -> None:
    """The table of methods, or one of them in full."""
    import inspect

    from winnow.cli.terminal import bold
    from winnow.methods import METHODS, find_method, hyperparameters

    chosen = [find_method(name)] if name else list(METHODS.values())
    if json_output:
        rows = [
            {
                "name": m.name,
                "title": m.title,
                "paper": m.paper,
                "assumes": m.assumes,
                "remedy": m.remedy,
                "cost": m.cost,
                "needs": sorted(need.value for need in m.needs),
                "hyperparameters": {n: p.default for n, p in hyperparameters(m).items()},
            }
            for m in chosen
        ]
        print(json.dumps(rows[0] if name else rows))
        return
    if name is None:
        print(f"{'method':<25}{'noise assumed':<18}{'cost':>4}  what it does")
        for m in chosen:
            print(f"{m.name:<25}{m.assumes:<18}{m.cost:>4.3g}  {m.title}")
        print("cost: a step's time, cross-entropy = 1. In full: winnow methods NAME")
        return
    [method] = chosen
    print(bold(f"{method.name}: {method.title}"))
    print(f"Paper    {method.paper or '-'}")
    print(
        f"Assumes  {method.assumes} noise; a {method.remedy} method; {method.cost:.3g} times the cost of cross-entropy"
    )
    print()
    print(inspect.getdoc(method))
    print()
    print("Set with --set NAME=VALUE:")
    for key, parameter in hyperparameters(method).items():
        kind = getattr(parameter.annotation, "__name__", str(parameter.annotation))
        print(f"  {key} = {parameter.default!r} ({kind})")
