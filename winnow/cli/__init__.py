"""The command line: one file a command; heavy imports wait until there is work."""

from __future__ import annotations

import os
import sys
import traceback

import typer

from winnow.cli import audit, bench, demo, diagnose, doctor, export, methods, noise, predict, study, train
from winnow.cli.config import ConfiguredCommand
from winnow.errors import WinnowError
from winnow.train.interrupt import Termination, interrupt_on_termination

_INTERRUPTED = 130

app = typer.Typer(
    name="winnow",
    help="Learn from image collections whose labels are partly wrong, and find the wrong labels.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    demo.demo,
    train.train,
    audit.audit,
    predict.predict,
    export.export,
    noise.noise,
    diagnose.diagnose,
    bench.bench,
    methods.methods,
    doctor.doctor,
):
    app.command(cls=ConfiguredCommand)(_command)
app.add_typer(study.study)


def _version(value: bool) -> None:
    if value:
        from winnow import __version__

        print(f"winnow {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Learn from image collections whose labels are partly wrong, and find the wrong labels."""


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and exits with the code of the design; a person sees one line, never a traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments or os.environ.get("WINNOW_DEBUG", "").lower() in ("1", "true", "yes", "on")
    termination = Termination()
    try:
        with interrupt_on_termination() as termination:
            code = app(arguments, prog_name="winnow", standalone_mode=False)
        if code == _INTERRUPTED:  # what the parser makes of a KeyboardInterrupt
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except WinnowError as error:
        _fail(_one_line(error), error.exit_code, debug)
    except KeyboardInterrupt:
        _fail("stopped before the end; nothing was lost", 143 if termination.arrived else _INTERRUPTED, debug)
    except MemoryError as error:
        _fail(f"out of memory {error}", 5, debug)
    except BrokenPipeError:
        # The reader of our output has gone; that is its decision.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        _fail(f"{error.filename or 'output'}: {error.strerror or error}", 5, debug)
    except Exception as error:
        if (place := _users_own(error)) is not None:
            _fail(f"{place}: {type(error).__name__}: {_one_line(error)}", 2, debug)
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.ctx.get_help(), file=sys.stderr)  # type: ignore[attr-defined]
            sys.exit(2)
        if hasattr(error, "format_message"):  # the parser's own errors
            _fail(error.format_message(), 2, debug)
        if type(error).__name__ == "Abort":
            _fail("stopped", _INTERRUPTED, debug)
        _fail(
            f"{type(error).__name__}: {_one_line(error)} (this is a bug in winnow; --debug shows where)",
            1,
            debug,
        )


def _users_own(error: BaseException) -> str | None:
    """File and line of a user's own method, if the error came up in it."""
    place, frame = None, error.__traceback__
    while frame is not None:
        if str(frame.tb_frame.f_globals.get("__name__", "")).startswith("winnow_user_"):
            place = f"{frame.tb_frame.f_code.co_filename} line {frame.tb_lineno}"
        frame = frame.tb_next
    return place


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split("\n"))
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _fail(message: str, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    from winnow.cli.terminal import print_error

    print_error(message, stopped=code in (130, 143))
    sys.exit(code)
