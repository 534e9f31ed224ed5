"""Damaged files of every kind are refused with one short sentence; `make fuzz` tries ten thousand.

A fault that was found is a test of its own, beside the code that had it. Here are a few hundred of the cases, and the
proof that each kind of fault would be seen.
"""

import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fuzz import COUNTS, fuzz  # noqa: E402
from subjects import SUBJECTS  # noqa: E402
from watched import watched  # noqa: E402

import workflows  # noqa: E402


@pytest.mark.parametrize("subject", SUBJECTS)
def test_no_damage_of_a_file_is_accepted_or_ends_in_a_traceback(subject, tmp_path):
    found = list(fuzz(subject, 60, tmp_path))
    assert not [(one.number, one.about, one.faults) for one in found if one.faults]
    assert sum(bool(one.refused) for one in found) > 30, "most damage is noticed"


def test_the_same_number_is_the_same_damage(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    together = list(fuzz("checkpoints", 6, tmp_path / "a"))
    alone = list(fuzz("checkpoints", 1, tmp_path / "b", first=5))
    assert alone[0].about == together[5].about and bool(alone[0].refused) == bool(together[5].refused)


def test_ten_thousand_cases_are_tried_by_make_fuzz():
    assert sum(COUNTS.values()) + workflows.COUNT == 10_000 and COUNTS.keys() == SUBJECTS.keys()


@pytest.mark.host
def test_odd_workflows_are_answered_in_a_sentence(host):
    found = list(workflows.answers(host, 25))
    assert not [(one.number, one.faults) for one in found if one.faults]
    assert any(one.ending != "success" for one in found)


def test_weights_that_are_not_checked_against_their_list_would_be_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("mirrorppr_core.mini.files.check_listed", lambda *_: None)
    assert any(one.faults == ("damage was accepted",) for one in fuzz("weights", 80, tmp_path))


def test_checkpoints_without_their_hash_would_be_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("training.runs.checkpoints.file_sha256", lambda path: "")
    monkeypatch.setattr("training.runs.checkpoints._told_sha256", lambda about: "")
    assert any(one.faults == ("damage was accepted",) for one in fuzz("checkpoints", 80, tmp_path))


def raises(error):
    def call():
        raise error

    return call


def forever():
    while True:
        time.sleep(0)


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (raises(KeyError("x")), "traceback: KeyError"),
        (raises(RecursionError()), "traceback: RecursionError"),
        (raises(ValueError("x" * 501)), "a message of 501 characters"),
        (lambda: open(Path.home() / "mirrorppr-fuzz-elsewhere", "ab").close(), "for writing"),
        (lambda: subprocess.run([sys.executable, "-V"], capture_output=True), "a program"),
        (forever, "s of processor time"),
    ],
)
def test_each_kind_of_fault_is_seen(call, fault, tmp_path, monkeypatch):
    monkeypatch.setattr("watched.MOST_SECONDS", 0.3)
    (tmp_path / "home").mkdir(), (tmp_path / "own").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert any(fault in one for one in watched(call, tmp_path / "own").faults)


def test_a_refusal_is_no_fault(tmp_path):
    ending = watched(raises(ValueError("a.png is empty: copy it again")), tmp_path)
    assert ending.refused == "a.png is empty: copy it again" and not ending.faults
