"""What exists is documented, and what is documented exists."""

import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from automl_cli.errors import AutomlError

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMANDS_PAGE = ROOT / "docs" / "commands.md"
EXIT_CODES_PAGE = ROOT / "docs" / "exit-codes.md"

# 0 is success, 7 and 8 are no failures, the others are the shell's for signals: no error class carries them
CODES_WITHOUT_CLASS = {0, 7, 8, 129, 130, 141, 143}

FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def page_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@functools.cache
def commands() -> dict[str, Any]:
    """Every command by its full name ("fit", "runs list"), groups left out."""
    import typer

    from automl_cli.cli import app

    def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            for child_name, child in command.commands.items():
                if not child.hidden:
                    yield from walk(child, f"{name} {child_name}".strip())
        else:
            yield name, command

    return dict(walk(typer.main.get_command(app), ""))


def parameters(command: Any) -> list[Any]:
    return [p for p in command.params if not getattr(p, "hidden", False)]


def options_of(command: Any) -> set[str]:
    """Every spelling of every option, ``--help`` included."""
    return {spelling for p in parameters(command) for spelling in (*p.opts, *p.secondary_opts)} | {"--help"}


def section(name: str) -> str:
    """What docs/commands.md says about one command: from its heading to the next of the same depth or above."""
    found = re.search(rf"^(#+) +`?(?:automl )?{re.escape(name)}`?(?=\s|$).*$", text_of(COMMANDS_PAGE), re.MULTILINE)
    assert found, f"docs/commands.md has no heading '## automl {name}'"
    rest = text_of(COMMANDS_PAGE)[found.end() :]
    following = re.search(rf"^#{{1,{len(found[1])}}} ", FENCE.sub(lambda m: " " * len(m[0]), rest), re.MULTILINE)
    return rest[: following.start()] if following else rest


def shell_lines(text: str) -> Iterator[str]:
    """Each ``automl ...`` command in code blocks and code spans, continued lines joined."""
    for block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if (line := line.strip().removeprefix("$ ")).startswith("automl "):
                yield line
    yield from (span for span in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)) if span.startswith("automl "))


def prose(text: str) -> str:
    """Return ``text`` without shown command lines, which may be another command's and have a test of their own."""
    return re.sub(r"`automl [^`\n]+`", "", FENCE.sub("", text))


def every_code_word() -> set[str]:
    """Every word that stands in code type on some page."""
    spans = [span for page in PAGES for span in re.findall(r"`([^`\n]+)`", FENCE.sub("", text_of(page)))]
    return {word for span in spans for word in re.findall(r"[\w-]+", span)}


def test_every_command_has_a_section_and_an_example() -> None:
    for name in commands():
        assert any(line.startswith(f"automl {name}") for line in shell_lines(section(name))), f"no example of {name}"


def test_every_command_and_option_has_help() -> None:
    for name, command in commands().items():
        assert command.help, f"automl {name} has no help"
        silent = [p.opts for p in parameters(command) if p.param_type_name == "option" and not p.help]
        assert not silent, f"automl {name}: no help for {silent}"


def test_every_option_is_documented_with_its_command() -> None:
    missing = {
        name: sorted(absent)
        for name, command in commands().items()
        if (
            absent := {o for o in options_of(command) if o.startswith("--")}
            - {*OPTION.findall(section(name)), "--help"}
        )
    }
    assert not missing


def test_every_documented_option_exists() -> None:
    unknown = {
        name: sorted(extra)
        for name, command in commands().items()
        if (extra := set(OPTION.findall(prose(section(name)))) - options_of(command))
    }
    assert not unknown


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_shown_command_line_exists(page: Path) -> None:
    for line in shell_lines(text_of(page)):
        words = shlex.split(line.split(" | ")[0].split(" && ")[0], comments=True)[1:]
        if not words or words[0].startswith("-") or not re.fullmatch(r"[a-z]+", words[0]):
            continue
        name = next((n for n in (" ".join(words[:2]), words[0]) if n in commands()), None)
        assert name, f"{page_name(page)}: there is no such command: {line}"
        spelled = {w.split("=")[0] for w in words if re.match(r"--?[a-z]", w)}
        unknown = spelled - options_of(commands()[name]) - {"-h"}
        assert not unknown, f"{page_name(page)}: {line}: no option {unknown}"


def test_exit_codes_are_documented_and_exist() -> None:
    def tree(error: type[AutomlError]) -> Iterator[type[AutomlError]]:
        yield error
        for child in error.__subclasses__():
            yield from tree(child)

    ours = {error.exit_code for error in tree(AutomlError) if error.__module__.startswith("automl_cli")}
    documented = {int(code) for code in re.findall(r"^\| *`?(\d+)`? *\|", text_of(EXIT_CODES_PAGE), re.MULTILINE)}
    assert documented == ours | CODES_WITHOUT_CLASS


def test_families_are_documented() -> None:
    from automl_cli.families import find_families

    assert set(find_families()) <= every_code_word()


def test_metrics_are_documented() -> None:
    from automl_cli.metrics import METRICS

    assert set(METRICS) <= every_code_word()


def test_encodings_are_documented() -> None:
    from automl_cli.features.encodings import ENCODINGS

    assert set(ENCODINGS) <= every_code_word()


def test_column_kinds_are_documented() -> None:
    from automl_cli.table import Kind

    assert {kind.value for kind in Kind} <= every_code_word()


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    local = [link for link in LINK.findall(FENCE.sub("", text_of(page))) if not re.match(r"[a-z]+:|#", link)]
    broken = [link for link in local if not (page.parent / link.partition("#")[0]).exists()]
    assert not broken, f"{page_name(page)}: {broken}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    def linked(page: Path) -> set[Path]:
        links = LINK.findall(FENCE.sub("", text_of(page)))
        return {(page.parent / link.partition("#")[0]).resolve() for link in links if not re.match(r"[a-z]+:|#", link)}

    reached, new = set(), {ROOT / "README.md"}
    while new:
        reached |= new
        new = {to for page in new if page.suffix == ".md" and page.exists() for to in linked(page)} - reached
        # a link to a folder is a link to what lies in it
        new |= {child for folder in new if folder.is_dir() for child in folder.glob("*.md")} - reached
    lost = [page_name(page) for page in PAGES if page not in reached]
    assert not lost


def test_the_readme_names_the_test_command_that_ci_runs() -> None:
    assert "make test" in text_of(ROOT / "README.md")
    assert "make test" in text_of(ROOT / ".ci" / "run")


def test_no_file_names_a_place_on_one_machine() -> None:
    # spelled in pieces, so that this file passes its own test
    forbidden = re.compile(
        "|".join((r"(?<![\w.])/wo" r"rk/", r"(?<![\w.])/ro" r"ot/", r"\.\./sha" r"red", r"/opt/" r"(v|pypi|wheels)\b"))
    )
    kinds = {".py", ".md", ".toml", ".yaml", ".yml", ".sh", ".cfg", ".csv", ".json", ""}
    skipped = {".git", "build", "dist", "__pycache__"}
    found = [
        f"{page_name(path)}: {hit[0]}"
        for path in sorted(ROOT.rglob("*"))
        if path.is_file()
        and path.suffix in kinds
        and not any(
            p in skipped or p.startswith(".venv") or p.endswith(("cache", ".egg-info", ".hypothesis"))
            for p in path.relative_to(ROOT).parts
        )
        and (hit := forbidden.search(path.read_text(encoding="utf-8", errors="replace")))
    ]
    assert not found
