"""Every link in the documents leads somewhere, and every command in them exists as written."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.function import ROOT, environment

DOCUMENTS = [
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("examples/**/*.md"))
    if path.name != "CHANGELOG.md"
]
BLOCK = re.compile(r"^( *)```(?:sh|bash)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"""(?:\]\(|src=")([^)"\s]+)""")
INLINE = re.compile(r"`((?:python -m handler|\./deploy\.sh|make) [^`]+)`")


def names(paths: list[Path]) -> list[str]:
    """Show a document by its path in the project."""
    return [str(path.relative_to(ROOT)) for path in paths]


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_every_link_leads_somewhere(document: Path) -> None:
    """To a file of the project and a heading in it; links to the web are not checked."""
    lost = []
    for link in LINK.findall(document.read_text()):
        if link.startswith(("https://", "http://")):
            continue
        file, _, anchor = link.partition("#")
        target = (document.parent / file).resolve() if file else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def commands(document: Path) -> Iterator[str]:
    """Return a document's commands: those in blocks, line by line, and those in the text."""
    text = document.read_text()
    for _, block in BLOCK.findall(text):
        yield from block.replace("\\\n", " ").splitlines()
    yield from INLINE.findall(text)


def words(command: str) -> list[str]:
    """Split a command like a shell, without comments, variables before it and what follows."""
    split = shlex.split(re.split(r"[|>;]", command)[0], comments=True)
    while split and re.fullmatch(r"\w+=.*", split[0]):
        del split[0]
    return split


OURS = [split for path in DOCUMENTS for command in commands(path) if (split := words(command))]
MAKE = sorted({split[1] for split in OURS if split[0] == "make" and len(split) > 1})
DEPLOY = sorted(
    {
        word.partition("=")[0]
        for split in OURS
        if split[0] == "./deploy.sh"
        for word in split[1:]
        if word.startswith("--")
    }
)
HANDLER = sorted({" ".join(split[3:]) for split in OURS if split[1:3] == ["-m", "handler"]})


@pytest.mark.parametrize("target", MAKE)
def test_every_target_of_make_exists(target: str) -> None:
    """A dry run of it succeeds."""
    assert run("make", "--dry-run", target).returncode == 0


def test_make_help_lists_every_target() -> None:
    """But itself."""
    (targets,) = re.findall(r"^\.PHONY: help (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    listed = re.findall(r"^make (\w+)  ", run("make", "help").stdout, re.MULTILINE)

    assert sorted(targets.split()) == sorted(listed)


@pytest.mark.parametrize("option", DEPLOY)
def test_every_option_of_deploy_exists(option: str) -> None:
    """Its help names it."""
    assert re.search(rf"{option}\b", run("bash", "deploy.sh", "--help").stdout)


@pytest.mark.parametrize("arguments", HANDLER)
def test_every_command_exists_with_its_options(arguments: str) -> None:
    """Its own help names each option used in the documents."""
    given = arguments.split()
    actions = [word for word in given[:2] if re.fullmatch(r"[a-z]+", word)]
    said = run(sys.executable, "-m", "handler", *actions, "--help")
    options = [word.partition("=")[0] for word in given if word.startswith("--")]

    assert said.returncode == 0, said.stderr
    assert [option for option in options if option not in said.stdout] == []


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's folder."""
    return subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )


def test_the_terminal_in_the_picture_is_that_of_a_user() -> None:
    """`make pictures` records it; a make within a make prints the folder that it runs in."""
    picture = (ROOT / "docs" / "pictures" / "terminal.svg").read_text()

    assert ">$ make run</text>" in picture
    assert "make[" not in picture
