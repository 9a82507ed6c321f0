"""Settings: a flag beats the environment, which beats automl.toml, which beats the default."""

import csv
import difflib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import typer
from typer.core import TyperGroup

from automl_cli.errors import UsageError

SETTINGS_FILE = Path("automl.toml")
SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30,
         "ti": 2**40}  # fmt: skip
ROW_SECONDS = {"us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0}
LEAST_FILE = 1_000
SOURCES = {"COMMANDLINE": "flag", "ENVIRONMENT": "environment", "DEFAULT_MAP": str(SETTINGS_FILE), "DEFAULT": "default"}


def load_settings(context: typer.Context) -> dict[str, Any]:
    """Read automl.toml of the current folder: one table per command, keys spelled like the options.

    Raises
    ------
    UsageError
        The file cannot be read, is not TOML or not made of tables, or a table is called like no command.
    """
    if not SETTINGS_FILE.exists():
        return {}
    import tomllib

    found = cast(TyperGroup, context.command).commands
    commands = [name for name, command in found.items() if not isinstance(command, TyperGroup)]
    try:
        data = tomllib.loads(SETTINGS_FILE.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{SETTINGS_FILE} cannot be read ({error.strerror})", hint="mend it or move it away"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{SETTINGS_FILE} is not valid TOML ({error})", hint="mend it or move it away") from error
    tables: dict[str, Any] = {}
    for command, table in data.items():
        if not isinstance(table, dict):
            raise UsageError(f"{SETTINGS_FILE}: {command!r} stands outside a table", hint="begin with a line [fit]")
        if command in found and command not in commands:
            raise UsageError(f"{SETTINGS_FILE} has a table [{command}], which takes no settings", hint="take it out")
        if command not in commands:
            near = difflib.get_close_matches(command, commands, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "commands are " + ", ".join(commands)
            raise UsageError(f"{SETTINGS_FILE} has a table [{command}], which is no command", hint=hint)
        repeated = {str(option.name): bool(getattr(option, "multiple", False)) for option in found[command].params}
        tables[command] = {
            name: _as_option(name, value, repeated)
            for name, value in ((key.replace("-", "_"), value) for key, value in table.items())
        }
    return tables


def _as_option(name: str, value: Any, repeated: Mapping[str, bool]) -> Any:
    """Return a TOML value as the command line would have given it; of several where the option is ``repeated``."""
    if isinstance(value, bool):
        return value
    if repeated.get(name) and not isinstance(value, list):
        return [str(value)]
    if not isinstance(value, list):
        return str(value)
    if name == "columns":  # one text, a line of CSV
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(value)
        return line.getvalue()
    if not repeated.get(name, True):
        raise UsageError(f"{SETTINGS_FILE} sets {name!r} to a list, and it takes one value", hint="write it without []")
    return [str(item) for item in value]


def check_settings(context: typer.Context) -> None:
    """Refuse keys of automl.toml that are no option of this command.

    Raises
    ------
    UsageError
        With the nearest option.
    """
    known = [parameter.name for parameter in context.command.params if parameter.name is not None]
    for key in context.default_map or {}:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"see automl {context.command.name} --help"
            raise UsageError(f"{SETTINGS_FILE} sets {key!r}, which is no option of {context.command.name}", hint=hint)


def settings_table(context: typer.Context) -> list[tuple[str, str, str]]:
    """Return (option, value, where it came from) of every option of the command."""
    rows = []
    for parameter in context.command.params:
        if parameter.name is None or parameter.name in ("show_settings", "help"):
            continue
        source = context.get_parameter_source(parameter.name)
        value = context.params.get(parameter.name)
        rows.append(
            (parameter.name.replace("_", "-"), _shown(value), SOURCES.get(getattr(source, "name", ""), "default"))
        )
    return rows


def _shown(value: Any) -> str:
    if value is None or value == ():
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def parse_seconds(text: str) -> float:
    """Read a duration: ``60``, ``60s``, ``10m``, ``2h``, ``1h30m``.

    Raises
    ------
    UsageError
        It is not one, or not positive.

    >>> parse_seconds("10m"), parse_seconds("1h30m"), parse_seconds("1.5")
    (600.0, 5400.0, 1.5)
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip().lower())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip().lower():
        raise UsageError(f"{text!r} is not a duration", hint="write 60s, 10m or 2h")
    seconds = sum(float(number) * SECONDS[unit] for number, unit in parts)
    if not 0 < seconds < 1e9:
        raise UsageError(f"a limit of {text!r} leaves no time", hint="write 60s, 10m or 2h")
    return seconds


def parse_wait(text: str | None) -> float:
    """Read how long to wait, in seconds; by default and with ``0`` not at all.

    Raises
    ------
    UsageError
        It is no duration.

    >>> parse_wait("0s"), parse_wait("10m")
    (0.0, 600.0)
    """
    return 0.0 if text is None or re.fullmatch(r"0+[smhd]?", text.strip().lower()) else parse_seconds(text)


def parse_bytes(text: str) -> int:
    """Read a size: ``4GB``, ``512MB``, ``2GiB``.

    Raises
    ------
    UsageError
        It is not one, or too small to work with.

    >>> parse_bytes("2GiB"), parse_bytes("1.5 GB")
    (2147483648, 1500000000)
    """
    size = _bytes(text, hint="write 4GB or 512MB")
    if size < 200 * 10**6:
        raise UsageError(f"{text} of memory is too little", hint="the program alone needs 200MB")
    return size


def parse_size(text: str) -> int:
    """Read what a file may hold: ``10MB``, ``500kB``, ``2MiB``.

    Raises
    ------
    UsageError
        It is not a size, or less than a file of any model takes.

    >>> parse_size("10MB"), parse_size("0.5 mb")
    (10000000, 500000)
    """
    size = _bytes(text, hint="write 10MB or 500kB")
    if size < LEAST_FILE:
        raise UsageError(f"no model fits into {text}", hint=f"the least that can be asked for is {LEAST_FILE} bytes")
    return size


def parse_latency(text: str) -> float:
    """Read how long a row may take, in seconds: ``50us``, ``1ms``, ``0.1s``.

    Raises
    ------
    UsageError
        It is not a time with its unit, or none at all.

    >>> parse_latency("2us"), parse_latency("0.5 ms")
    (2e-06, 0.0005)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|µs|μs|ms|s)", text.strip().lower())
    if match is None:
        raise UsageError(f"{text!r} is not a time of a row", hint="write 50us or 1ms")
    seconds = float(match[1]) * ROW_SECONDS[match[2]]
    if seconds <= 0:
        raise UsageError(f"a row takes more than {text}", hint="write 50us or 1ms")
    return seconds


def _bytes(text: str, hint: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", text.strip().lower())
    if match is None:
        raise UsageError(f"{text!r} is not a size", hint=hint)
    return int(float(match[1]) * BYTES[match[2] or ""])
