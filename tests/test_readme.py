"""Every command of README.md does what it says: the fast ones are run, the long ones read by their own programs.

A command that no rule knows fails, so nobody can add one that was never tried.
"""

from __future__ import annotations

import argparse
import json
import re
import runpy
import shlex
import shutil
import sys

import pytest
from host import ROOT

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib

SAMPLES = ROOT / "nodes" / "samples"
RUN = ("retouch", "extract", "refine", "album", "reproject")  # of mirrorppr_core: seconds each
PROGRAMS = re.compile(r"(mirrorppr_core|training(\.\w+)?)")


def commands() -> list[str]:
    """Command lines of the fenced blocks that are not marked as text, in order; continued lines joined."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    lines = "\n".join(block for language, block in blocks if language != "text").replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip()]


def words(command: str) -> list[str]:
    return shlex.split(command, comments=True)


def rule_of(command: str) -> str:
    """Which check a command gets."""
    match words(command):
        case ["python", "-m", "mirrorppr_core", name, *rest] if name in RUN and "qwen" not in rest:
            return "run"
        case ["python", "-m", module, *_] if PROGRAMS.fullmatch(module):
            return "parse"
        case ["make", _]:
            return "make"
        case ["pip", "install", *_]:
            return "pip"
    return "none"


def of_rule(rule: str) -> list[str]:
    return [command for command in commands() if rule_of(command) == rule]


def test_every_command_has_a_rule():
    assert commands()
    assert not of_rule("none"), "give it a rule in this file: run it, or have its program read it"


def test_a_command_without_a_rule_would_be_noticed():
    assert rule_of("curl something | sh") == rule_of("python -m nowhere --x") == "none"


def test_other_blocks_hold_no_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for text in re.findall(r"^```text\n(.*?)^```", readme, re.MULTILINE | re.DOTALL):
        assert not re.search(r"^\s*(python|pip|make|git|accelerate) ", text, re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that the README's examples name: drawn people, a retouch of one, a shoot."""
    from mirrorppr_core.faces.locator import Locator
    from mirrorppr_core.mini.files import bundled_set
    from mirrorppr_core.operations.llw import apply_llw
    from mirrorppr_core.photo_files import Photo, read_photo, write_photo

    place = tmp_path_factory.mktemp("readme")
    photo = read_photo(SAMPLES / "portrait_a.jpg").pixels.float() / 255
    locator = Locator.from_file(bundled_set() / "locator.safetensors")
    query = read_photo(SAMPLES / "portrait_b.jpg").pixels.float() / 255
    for name, picture in (("after", photo), ("a_corrected", query)):
        larger_eyes = apply_llw(picture, locator.find(picture)[0].mesh, [("eye_resize", 90.0)]).image
        write_photo(place / f"{name}.png", Photo((larger_eyes * 255).round().byte()))
        (place / f"{name}.png").rename(place / f"{name}.jpg")  # what a file is, is seen in it
    shutil.copy(place / "after.jpg", place / "generator_output.png")
    (place / "shoot").mkdir()
    for name in ("before.jpg", "photo.jpg", "shoot/IMG_1.jpg"):
        shutil.copy(SAMPLES / "portrait_a.jpg", place / name)
    for name in ("a.jpg", "b.jpg", "shoot/IMG_2.jpg"):
        shutil.copy(SAMPLES / "portrait_b.jpg", place / name)
    return place


@pytest.mark.parametrize("command", of_rule("run"))
def test_a_fast_command_works_as_it_stands(command, folder, monkeypatch, capsys):
    from mirrorppr_core.commands.cli import main

    monkeypatch.chdir(folder)
    assert main(words(command)[3:]) == 0
    assert "error" not in json.loads(capsys.readouterr().out)


class _Read(BaseException):
    """The program's own parser was content."""


@pytest.mark.parametrize("command", of_rule("parse"))
def test_a_long_command_is_read_by_its_own_program(command, monkeypatch):
    parse = argparse.ArgumentParser.parse_args

    def read_and_stop(parser, *arguments, **more):
        parse(parser, *arguments, **more)
        raise _Read

    _, _, module, *rest = words(command)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", read_and_stop)
    monkeypatch.setattr(sys, "argv", [module, *rest])
    monkeypatch.chdir(ROOT)
    with pytest.raises(_Read):
        runpy.run_module(module, run_name="__main__", alter_sys=False)


@pytest.mark.parametrize("command", of_rule("make"))
def test_a_make_target_exists(command):
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert words(command)[1] in targets


def packages_named() -> list[str]:
    """Names in every `pip install` of README, fenced or not."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    installs = re.findall(r"pip install ([^`\n]+)", readme)
    return [re.split(r"[<>=\[;]", word)[0] for one in installs for word in shlex.split(one) if word[0] not in "-("]


def test_packages_that_the_readme_installs_are_those_of_the_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project["dependencies"] + [line for lines in project["optional-dependencies"].values() for line in lines]
    known = {re.split(r"[<>=\[; ]", line)[0].lower() for line in lines}
    assert packages_named()
    assert {name.lower() for name in packages_named()} <= known


def test_every_place_that_the_readme_links_to_exists():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"\]\((?!https?:|#)([^)#]+)", readme):
        assert (ROOT / name).exists(), name


def test_the_readme_names_every_template():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "workflows").glob("*.json"):
        assert path.stem in readme, f"{path.stem} is not among the recipes"
