"""What the documents tell a reader to type or open is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md"), *ROOT.glob("benchmarks/**/*.md")]
)
README_CODE = "\n".join(re.findall(r"^```\w*\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S))
ROOMS = ("stunet_deploy", "training", "export", "runtime")
TARGETS = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.M))

HELP_WITHOUT_TORCH = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnx", "scipy"):
            raise ModuleNotFoundError(f"{name} is blocked in this test", name=name)

sys.meta_path.insert(0, Blocker())
from stunet_deploy import cli

function = getattr(cli, sys.argv.pop(1))
sys.exit(function())
"""


def readme_commands() -> list[tuple[str, ...]]:
    """The entry function and verb of every stunet command in the README's code."""
    verbs = re.findall(r"(?:^|[\s/])stunet ([a-z]+)", README_CODE)
    commands = {("main", verb) for verb in verbs}
    if re.search(r"(?:^|[\s/])stunet-export\b", README_CODE):
        commands.add(("export_main",))
    return sorted(commands)


def test_the_readme_names_make_targets_that_exist() -> None:
    named = set(re.findall(r"^make ([a-z0-9]+)", README_CODE, re.M))

    assert {"demo", "test"} <= named <= TARGETS


@pytest.mark.needs_system_package("make")
def test_make_help_lists_every_target() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert set(re.findall(r"make ([a-z0-9]+)", shown)) == TARGETS


@pytest.mark.parametrize("command", readme_commands(), ids=" ".join)
def test_a_readme_command_explains_itself_without_torch(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP_WITHOUT_TORCH, *command, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) + re.findall(r'src="([^"]+)"', text)
    local = [target for target in targets if not re.match(r"[a-z]+:", target)]

    assert [target for target in local if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_modules_and_files_of_code_that_are_named_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    modules = re.findall(r"\s-m\s+((?:benchmarks|training|export|runtime|stunet_deploy)[\w.]*\w)", text)
    named = re.findall(r"`((?:benchmarks|training|export|runtime|stunet_deploy|tests|deploy)/[\w/.-]+\.\w+)`", text)

    assert [name for name in modules if not is_program(ROOT / name.replace(".", "/"))] == []
    assert [file for file in named if not (ROOT / file).is_file()] == []


def test_pages_that_code_names_exist() -> None:
    sources = [path for room in (*ROOMS, "benchmarks", "deploy") for path in (ROOT / room).rglob("*.*")]
    texts = [path.read_text(encoding="utf-8") for path in sources if path.suffix in (".py", ".service", ".html")]
    named = {page for text in texts for page in re.findall(r"\bdocs/[\w/-]+\.md\b", text)}

    assert len(named) > 3
    assert [page for page in sorted(named) if not (ROOT / page).is_file()] == []


def is_program(path: Path) -> bool:
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if "benchmarks" not in path.parts], ids=lambda path: path.name
)
def test_lines_are_at_most_120_characters(document: Path) -> None:
    """A row of a table cannot be broken."""
    lines = document.read_text(encoding="utf-8").splitlines()

    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []
