"""What a person watching a run sees, and what remains of it."""

import json

import pytest
import torch
from PIL import Image

pytest.importorskip("accelerate")

from training.runs.held_out import draw_sheet
from training.runs.progress import Progress, clock


def progress(run, *, start=0, reporters=(), main=True) -> Progress:
    return Progress(run, "joint", steps=100, start=start, reporters=reporters, main=main)


def test_a_line_says_where_the_run_is_and_how_long_it_takes(tmp_path, capsys, monkeypatch):
    moments = iter([0.0, 20.0])
    monkeypatch.setattr("training.runs.progress.time.monotonic", lambda: next(moments))
    progress(tmp_path, start=10).training(50, {"loss": 0.5, "lr": 1e-4})
    assert capsys.readouterr().out == "joint  50/100  loss 0.5000  lr 1.0e-04  2 steps/s  left 0:00:25\n"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00:00"), (59.6, "0:01:00"), (3723, "1:02:03"), (90000, "25:00:00")]
)
def test_time_is_shown_in_hours_minutes_and_seconds(seconds, shown):
    assert clock(seconds) == shown


def test_a_continued_run_forgets_what_came_after_its_checkpoint_and_keeps_other_stages(tmp_path):
    entries = [
        {"stage": "encoder", "step": 90, "training": {}},
        {"stage": "joint", "step": 10, "training": {}},
        {"stage": "joint", "step": 20, "training": {}},
    ]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + '{"stage": "joi')
    progress(tmp_path, start=10)
    assert [json.loads(line) for line in log.read_text().splitlines()] == entries[:2]


def test_only_the_main_process_writes(tmp_path, capsys):
    other = progress(tmp_path, main=False)
    other.training(1, {"loss": 1.0})
    other.validation(1, {"loss": 1.0})
    other.sheet(1, Image.new("RGB", (8, 8)))
    other.close()
    assert not list(tmp_path.iterdir()) and not capsys.readouterr().out


@pytest.mark.parametrize(("reporter", "name"), [("tensorboard", "TensorBoard"), ("wandb", "Weights & Biases")])
def test_curves_that_are_not_installed_cost_one_line(reporter, name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("training.runs.progress.importlib.util.find_spec", lambda package: None)
    reports = progress(tmp_path, reporters=(reporter,))
    reports.training(1, {"loss": 1.0})
    reports.close()
    first, *rest = capsys.readouterr().out.splitlines()
    assert f"no {name}" in first and f"pip install {reporter}" in first and len(rest) == 1


def test_curves_hold_every_number_once_although_the_run_was_broken(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for start, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        reports = progress(tmp_path, start=start, reporters=("tensorboard",))
        for step in steps:
            reports.training(step, {"loss": float(step)})
        reports.close()
    events = EventAccumulator(str(tmp_path / "tensorboard" / "joint"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("training/loss")] == [(i, i) for i in (1, 2, 3, 4)]


def test_a_sheet_has_a_column_for_each_title_and_a_row_for_each_person_in_their_own_shape():
    row = {"query": torch.zeros(3, 32, 32), "prediction": 0.5 * torch.ones(3, 32, 64)}
    sheet = draw_sheet([row] * 4)
    assert sheet.width == 2 * 192 and sheet.height == 16 + 4 * 192
    assert sheet.getpixel((100, 600)) == (0, 0, 0) and sheet.getpixel((300, 600)) == (128, 128, 128)
    assert sheet.getpixel((300, 16 + 192 - 10)) == (255, 255, 255), "wide pictures are not made square"
