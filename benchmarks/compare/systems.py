"""What can be compared: how a system is named on the command line, and the script that runs it."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from automl_cli.errors import UsageError

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parents[1] / "systems"


@dataclass(frozen=True)
class Kind:
    """A system that the harness knows.

    Attributes
    ----------
    environment : str or None
        Name of the virtual environment it lives in; None: that of the harness.
    """

    script: str
    options: tuple[str, ...] = ()
    environment: str | None = None


KINDS = {
    "automl": Kind("fit_automl.py"),
    "lightgbm_default": Kind("fit_lightgbm.py"),
    "flaml": Kind("fit_flaml.py", environment="flaml"),
    "autogluon_best": Kind("fit_autogluon.py", ("best_quality",), "autogluon"),
    "autogluon_medium": Kind("fit_autogluon.py", ("medium_quality",), "autogluon"),
}

# environment -> what pip installs, one call after the other
REQUIREMENTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "flaml": (("flaml[automl]",),),
    # torch first: the build for CPUs where pip's index has one, before AutoGluon's own requirement takes any
    "autogluon": (("torch==2.13.0",), ("autogluon.tabular[all]",)),
}

SPEC = re.compile(
    r"(?:(?P<label>[\w.+-]+)=)?(?P<what>[^:@=]+?)(?:@(?P<checkout>[^:]+))?(?::(?P<options>.+))?", re.DOTALL
)


@dataclass(frozen=True)
class System:
    """One column of the comparison.

    Attributes
    ----------
    label : str
        What it is called in results.
    checkout : Path or None
        The copy of this repository that is run, for automl.
    """

    label: str
    script: Path
    options: tuple[str, ...] = ()
    environment: str | None = None
    checkout: Path | None = None

    @property
    def source(self) -> str:
        """Return a digest of the code that the system is, or of what is installed for it."""
        digest = hashlib.sha256(self.script.read_bytes())
        digest.update(repr((self.options, REQUIREMENTS.get(self.environment or ""))).encode())
        if self.checkout is not None:
            package = self.checkout / "automl_cli"
            for path in sorted(package.rglob("*.py")):
                digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
        return digest.hexdigest()[:12]


def parse_system(text: str) -> System:
    """Read one of ``--systems``.

    ``[LABEL=]NAME[@CHECKOUT][:OPTION[=VALUE],...]``: NAME is one that is known or the path of a script. A checkout,
    another copy of this repository, and options of ``automl fit`` go with automl only.

    >>> parse_system("flaml").environment
    'flaml'
    >>> lean = parse_system("lean=automl:without=smac,exclude=catboost,no-racing")
    >>> lean.label, lean.options
    ('lean', ('--without', 'smac', '--exclude', 'catboost', '--no-racing'))
    """
    found = SPEC.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} names no system", hint="[LABEL=]NAME[@CHECKOUT][:OPTION[=VALUE],...]")
    what, checkout, options = found["what"], found["checkout"], found["options"]
    if what.endswith(".py"):
        return System(found["label"] or Path(what).stem, _existing(Path(what)), _options(options))
    if what not in KINDS:
        raise UsageError(f"no system is called {what!r}", hint=f"{', '.join(KINDS)}, or the path of a script")
    kind = KINDS[what]
    if what != "automl":
        if checkout or options:
            raise UsageError(f"{text!r}: only automl takes a checkout and options", hint="name a script of your own")
        return System(found["label"] or what, SCRIPTS / kind.script, kind.options, kind.environment)
    place = Path(checkout).expanduser().resolve() if checkout else ROOT
    _existing(place / "automl_cli" / "__main__.py")
    label = found["label"] or text
    return System(label, SCRIPTS / kind.script, _options(options), checkout=place)


def parse_systems(texts: Iterable[str]) -> list[System]:
    """Read all of ``--systems``; no two may have the same label."""
    systems = [parse_system(text) for text in texts]
    labels = [system.label for system in systems]
    twice = {label for label in labels if labels.count(label) > 1}
    if twice:
        raise UsageError(f"two systems are called {twice.pop()!r}", hint="give one a label: LABEL=NAME")
    return systems


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UsageError(f"{path} does not exist")
    return path.resolve()


def _options(text: str | None) -> tuple[str, ...]:
    words: list[str] = []
    for option in text.split(",") if text else ():
        name, _, value = option.partition("=")
        words += [f"--{name}", value] if value else [f"--{name}"]
    return tuple(words)


def environments_of(systems: Sequence[System]) -> list[str]:
    """Return the virtual environments that these systems live in."""
    return sorted({system.environment for system in systems if system.environment})
