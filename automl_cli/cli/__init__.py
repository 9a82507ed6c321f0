"""The command line: parse, one call, and one map from errors to exit codes."""

import atexit
import contextlib
import io
import logging
import os
import sys
from typing import Annotated, NoReturn

import typer

from automl_cli.cli import adapt, check, embed, evaluate, experience, fit, inspect, nas, predict, profile, runs, sign
from automl_cli.cli.settings import load_settings
from automl_cli.errors import AutomlError, UsageError
from automl_cli.harmless import harmless

OFF = ("", "0", "false", "f", "no", "n", "off")  # as every other switch in the environment is read

app = typer.Typer(
    name="automl",
    invoke_without_command=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("fit")(fit.fit)
app.command("predict")(predict.predict)
app.command("evaluate")(evaluate.evaluate)
app.command("embed")(embed.embed)
app.command("nas")(nas.nas)
app.command("adapt")(adapt.adapt)
app.command("check")(check.check)
app.command("profile")(profile.profile)
app.command("inspect")(inspect.inspect)
app.command("sign")(sign.sign)
app.add_typer(experience.app, name="experience")
app.add_typer(runs.app, name="runs")


def _version(show: bool) -> None:
    if show:
        from automl_cli import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def settings(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """From a CSV to a model in one command.

    automl fit data.csv --target y       finds a model within 5 minutes (or --time)
    automl predict data.automl new.csv   applies it
    """
    context.default_map = load_settings(context)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> NoReturn:
    """Run the command line and leave with its exit code, at once: loaded libraries take long to say goodbye."""
    _open_missing_streams()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # a locale without a letter must not end an answer half way
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError as error:
        code = code or _fail_to_write(error, debug=False)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what could not be written is not tried again
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    # What libraries want to do at exit is done (multiprocessing removes its semaphores); taking the interpreter apart
    # is not: with everything loaded that costs 0.7 of the seconds that the time limit promised.
    atexit._run_exitfuncs()
    os._exit(code)


def _open_missing_streams() -> None:
    """Where a stream was closed before the start, let nothing else get its number, and nobody stumble over it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is this stream's
            if number:
                setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; the one place where errors become messages."""
    debug = "--debug" in arguments or os.environ.get("AUTOML_DEBUG", "").lower() not in OFF
    if not debug:  # what the library notes on the way is for whoever asks for it
        logging.getLogger("automl_cli").addHandler(logging.NullHandler())
        logging.getLogger("automl_cli").propagate = False
    try:
        code = app(args=arguments, prog_name="automl", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except AutomlError as error:
        return _fail(str(error), error.exit_code, debug)
    except typer.TyperException as error:
        return _fail(error.format_message(), UsageError.exit_code, debug)
    except typer.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130, debug)
    except SystemExit:
        return 141  # typer's answer to a pipe that nobody reads
    except OSError as error:
        return _fail_to_write(error, debug)
    except MemoryError:
        return _fail("out of memory: use fewer --workers, or a machine with more", 1, debug)
    except Exception as error:
        return _fail(f"unexpected {type(error).__name__}: {error} (--debug shows where)", 1, debug)


def _fail_to_write(error: OSError, debug: bool) -> int:
    """Tell what became of the output: no space, a reader that has left (as with any command in a pipe), or else."""
    from automl_cli.files import NO_SPACE

    if isinstance(error, BrokenPipeError):
        return 141
    if error.errno in NO_SPACE:
        place = error.filename or "the output"
        return _fail(f"no space to write {place}: free some space or choose another place", 1, debug)
    return _fail(f"unexpected {type(error).__name__}: {error} (--debug shows where)", 1, debug)


def _fail(message: str, code: int, debug: bool) -> int:
    with contextlib.suppress(OSError, ValueError):  # a full disk under the log changes no exit code
        if debug:
            import traceback

            sys.stderr.write(harmless(traceback.format_exc()))
        sys.stderr.write(f"automl: {harmless(' '.join(message.split()))}\n")
    return code


if __name__ == "__main__":
    main()
