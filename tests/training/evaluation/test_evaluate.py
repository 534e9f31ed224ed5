"""Scoring folders of outputs: the published protocol as it is, no silent drops, no prize for doing nothing."""

import json

import pytest
import torch
from PIL import Image
from synthetic import bump
from toys import astronaut, hopper, push, retouched_mouth

from mirrorppr_core.geometry.displacement import warp
from training.data.picture_files import read_picture
from training.evaluate import main, named_folders
from training.evaluation.engines import output_name, run_engine
from training.evaluation.metrics import ssim
from training.evaluation.outputs import COPY_QUERY, CaseFiles, Tool, evaluate, find_output, load_cases
from training.evaluation.perceptual import LearnedMeasures
from training.evaluation.report import Evaluation, to_json, to_markdown
from training.evaluation.scores import LEAST_ERROR, decibel
from training.evaluation.sheet import COLUMNS, draw_sheet, worst_cases

SIZE = 128
# CaseFiles: (exemplar, query, motion of both). Query "b" is asked for twice.
CASES = (
    ("a", "b", {"centre": (60, 64), "radius": 40, "shift": (6.0, 0.0)}, "nose +"),
    ("c", "b", {"centre": (70, 60), "radius": 36, "shift": (0.0, -5.0)}, "nose -"),
    ("b", "c", {"centre": (64, 70), "radius": 40, "shift": (-5.0, 3.0)}, "mouth +"),
)


def drawn(name: str) -> torch.Tensor:
    """A picture with texture everywhere, (1, 3, SIZE, SIZE)."""
    generator = torch.Generator().manual_seed(ord(name))
    coarse = torch.rand(1, 3, SIZE // 4, SIZE // 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic").clamp(0, 1)


def write(path, image: torch.Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((image[0].permute(1, 2, 0) * 255).round().byte().numpy()).save(path)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """dataset.json of three cases, in the published format with our optional key."""
    root, rows = tmp_path_factory.mktemp("dataset"), []
    for index, (exemplar, query, edit, operation) in enumerate(CASES):
        row = {"edit_instruction": f"retouch {index}", "operation": operation}
        for pair, person in (("pair1", exemplar), ("pair2", query)):
            row[f"{pair}_origin"], row[f"{pair}_edited"] = f"images/{person}.png", f"images/{pair}_{index}.png"
            write(root / row[f"{pair}_origin"], drawn(person))
            write(root / row[f"{pair}_edited"], warp(drawn(person), bump(SIZE, SIZE, **edit)))
        rows.append(row)
    (root / "dataset.json").write_text(json.dumps(rows))
    return root / "dataset.json"


@pytest.fixture(scope="module")
def cases(dataset):
    return load_cases(dataset)


@pytest.fixture
def perfect(cases, tmp_path):
    """A tool that returns the targets."""
    return tool(tmp_path / "perfect", cases, lambda case: read_picture(case.target))


def tool(folder, cases, draw) -> Tool:
    for case in cases:
        write(folder / f"mirrorppr_face_idx{case.index:04d}_p1_x_p2_y.png", draw(case))
    return Tool(folder.name, folder)


def report_of(cases, tools, *, only_official=False) -> Evaluation:
    results = evaluate(cases, tools, only_official=only_official)
    return Evaluation(cases, results, LearnedMeasures(), only_official=only_official)


# the published protocol


def test_the_summary_pools_squared_errors_and_averages_ssim(cases, tmp_path):
    noisy = tool(tmp_path / "noisy", cases, lambda case: (read_picture(case.target) + 0.02 * case.index).clamp(0, 1))
    summary = to_json(report_of(cases, [noisy], only_official=True))["summary"]
    pairs = [(read_picture(find_output(noisy.folder, c)), read_picture(c.target)) for c in cases]
    errors = torch.cat([(output - target).double().square().flatten() for output, target in pairs])
    assert summary["average_psnr"] == pytest.approx(float(-10 * errors.mean().log10()), abs=1e-4)
    assert summary["average_ssim"] == pytest.approx(sum(float(ssim(*pair)) for pair in pairs) / 3, abs=1e-5)
    assert summary["total_samples"] == summary["valid_pixel_samples"] == 3


def test_the_report_is_json_even_where_pictures_are_equal(cases, perfect):
    evaluation = report_of(cases, [perfect])
    assert "| perfect | 3 of 3 | inf [inf, inf] | 1.0000 [1.0000, 1.0000] |" in to_markdown(evaluation)
    stored = json.dumps(to_json(evaluation), allow_nan=False)
    assert json.loads(stored)["summary"]["average_psnr"] is None
    assert json.loads(stored)["individual_results"][0]["psnr"] is None


def test_what_was_not_measured_says_how_to_measure_it(cases, perfect):
    evaluation = report_of(cases, [perfect], only_official=True)
    assert to_json(evaluation)["summary"]["average_lpips"].startswith("not measured (pip install torchmetrics")
    assert to_markdown(evaluation).count("not measured (pip install insightface") == 2  # the tool's, and the query's


def test_learned_measures_are_averaged_and_faces_that_were_not_found_are_counted(cases, perfect):
    found = iter([0.5, None, 0.9, 0.5, None, 0.7])  # copy query and tool, case by case
    learned = LearnedMeasures(lpips=lambda output, target: 0.25, identity=lambda output, target: next(found))
    results = evaluate(cases, [perfect], learned=learned, only_official=True)
    evaluation = Evaluation(cases, results, learned, only_official=True)
    summary = to_json(evaluation)["summary"]
    assert summary["average_lpips"] == pytest.approx(0.25)
    assert summary["valid_identity_samples"] == 2
    assert summary["average_identity_similarity_edited"] == pytest.approx(0.6)
    assert "(2 pictures)" in to_markdown(evaluation)


# what is ours


def test_the_target_is_perfect_and_the_query_did_nothing(cases, perfect):
    nothing, own = report_of(cases, [perfect]).results
    assert nothing.name == COPY_QUERY
    for case in cases:
        assert own.honest[case.index].relative_epe < 1e-4
        assert own.honest[case.index].gain_db > 20
        assert nothing.honest[case.index].relative_epe == pytest.approx(1)
        assert nothing.honest[case.index].gain_db == 0
        assert nothing.honest[case.index].repainted == 0


def test_equal_pictures_score_what_rounding_to_8_bits_costs_and_not_infinity(cases, perfect):
    score = report_of(cases, [perfect]).tools[0].honest[0]
    assert score.inside_error == score.outside_error == LEAST_ERROR
    assert decibel(LEAST_ERROR) == pytest.approx(58.92, abs=0.01)


def test_controls_are_scored_from_their_folders(cases, perfect):
    tool(perfect.folder / "identity", cases, lambda case: read_picture(case.query))
    tool(perfect.folder / "reversed", cases, lambda case: read_picture(case.query))
    tool(perfect.folder / "shuffled", cases[:2], lambda case: read_picture(case.query))
    evaluation = report_of(cases, [perfect])
    controls = evaluation.tools[0].controls
    assert set(controls["identity"].values()) == {0} and len(controls["identity"]) == 3
    assert max(controls["reversed"].values()) < 1e-6
    assert controls["shuffled"] == {0: pytest.approx(1), 1: pytest.approx(1)}
    assert "| perfect | 0.000 (3) | 0.000 [0.000, 0.000] (3) | 1.000 [1.000, 1.000] (2) |" in to_markdown(evaluation)


def test_tools_stand_side_by_side_and_the_same_folders_give_the_same_report(cases, perfect, tmp_path):
    lazy = tool(tmp_path / "lazy", cases, lambda case: read_picture(case.query))
    evaluation = report_of(cases, [lazy, perfect])
    report = to_markdown(evaluation)
    for name in (COPY_QUERY, "lazy", "perfect"):
        assert report.count(f"\n| {name} | ") == 2
    assert "| nose + (1) | 1.00 | 0.00 |" in report
    assert list(to_json(evaluation)["others"]) == ["perfect", COPY_QUERY]
    assert to_markdown(report_of(cases, [lazy, perfect])) == report


def test_the_worst_case_comes_first(cases, perfect):
    write(find_output(perfect.folder, cases[1]), drawn("b"))
    result = report_of(cases, [perfect]).tools[0]
    worst = worst_cases(cases, result, 2)
    assert worst[0] == cases[1] and len(worst) == 2
    assert draw_sheet(worst, result).width == 192 * len(COLUMNS)


# nothing is dropped in silence


def test_a_missing_or_damaged_output_is_named_and_counts_as_the_query_unchanged(cases, perfect):
    find_output(perfect.folder, cases[0]).unlink()
    find_output(perfect.folder, cases[1]).write_bytes(b"no picture")
    evaluation = report_of(cases, [perfect])
    result = evaluation.tools[0]
    assert set(result.official) == {2} and set(result.missing) == {0, 1}
    assert "not-a-picture" in result.missing[1]
    assert result.honest[0] == evaluation.results[0].honest[0]
    report = to_markdown(evaluation)
    assert "2 of 3 outputs are missing" in report and "- case 0: no such file" in report
    assert to_json(evaluation)["summary"]["valid_pixel_samples"] == 1


def test_missing_outputs_fail_the_command_unless_allowed(dataset, cases, perfect, tmp_path, capsys):
    arguments = ["--dataset", str(dataset), "--outputs", str(perfect.folder), "--official"]
    assert main([*arguments, "--report", str(tmp_path / "r.json")]) == 0
    find_output(perfect.folder, cases[0]).unlink()
    assert main(arguments) == 1
    assert main([*arguments, "--allow-missing"]) == 0
    assert "1 of 3 outputs are missing" in capsys.readouterr().out


def test_a_folder_in_which_nothing_matches_is_refused_with_a_name_that_would(dataset, tmp_path, capsys):
    write(tmp_path / "b.png", drawn("b"))
    assert main(["--dataset", str(dataset), "--outputs", str(tmp_path)]) == 2
    assert "*idx0000_*" in capsys.readouterr().err


def test_a_pattern_finds_outputs_of_other_tools(cases, tmp_path):
    write(tmp_path / "b [1]_pair1_0.jpg", drawn("b"))
    assert find_output(tmp_path, cases[0], "{query} [[]1[]]_{exemplar_after}").name == "b [1]_pair1_0.jpg"
    write(tmp_path / "b_out.png", drawn("b"))
    assert find_output(tmp_path, cases[0], "{query}_out.png").name == "b_out.png"
    assert find_output(tmp_path, cases[2], "{query}_out.png") is None
    with pytest.raises(ValueError, match="2 pictures for case 0"):
        find_output(tmp_path, cases[0], "b*")
    with pytest.raises(ValueError, match="use {index}"):
        find_output(tmp_path, cases[0], "{number}.png")
    with pytest.raises(ValueError, match="relative to the tool's folder"):
        find_output(tmp_path, cases[0], "/{index}.png")


def test_a_row_whose_picture_is_gone_is_an_error(dataset, tmp_path):
    rows = json.loads(dataset.read_text())
    (tmp_path / "dataset.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match="3 rows cannot be used.*no-file"):
        load_cases(tmp_path / "dataset.json")


def test_cases_are_chosen_by_operation(dataset):
    assert [case.index for case in load_cases(dataset, operations=["nose"])] == [0, 1]
    assert [case.index for case in load_cases(dataset, operations=["nose -", "mouth"])] == [1, 2]
    with pytest.raises(ValueError, match="it has mouth \\+, nose \\+, nose -"):
        load_cases(dataset, operations=["ear"])


def test_tools_need_names_that_can_be_told_apart():
    assert [tool.name for tool in named_folders(["one=x/out", "y/two"])] == ["one", "two"]
    with pytest.raises(ValueError, match="write NAME=FOLDER"):
        named_folders(["x/out", "y/out"])


# our own engine


def brightens(before, after, query):
    """Brightens every query but one, which it refuses."""
    if torch.equal(query, (drawn("c") * 255).round().byte()):
        raise ValueError("no face found")
    return (query // 2) + 128


def test_the_engine_writes_published_names_and_a_log_that_says_what_was_refused(cases, tmp_path):
    refused = run_engine(brightens, cases, tmp_path, control_every=2)
    assert refused == {2: "no face found"}
    assert output_name(cases[0]) == "mirrorppr_face_idx0000_p1_pair1_0_p2_b.png"
    assert find_output(tmp_path, cases[0]) is not None and find_output(tmp_path, cases[2]) is None
    log = json.loads((tmp_path / "inference_log.json").read_text())
    assert [row["test_index"] for row in log] == [0, 1, 2] and log[2]["error"] == "no face found"
    assert sorted(path.parent.name for path in tmp_path.glob("*/*.png")) == ["identity", "reversed", "shuffled"]
    with pytest.raises(ValueError, match="already holds a run"):
        run_engine(brightens, cases, tmp_path)


def test_one_command_runs_the_bundled_model_and_scores_it(tmp_path):
    pytest.importorskip("skimage")
    pytest.importorskip("matplotlib")
    before, query = astronaut(), hopper()[..., :512, :]
    edited = push(query, centre=(250, 300), radius=40, shift=(6.0, 3.0))
    names = ("pair1_origin", "pair1_edited", "pair2_origin", "pair2_edited")
    for name, photo in zip(names, (before, retouched_mouth(before), query, edited), strict=True):
        write(tmp_path / f"{name}.png", photo / 255)
    (tmp_path / "dataset.json").write_text(json.dumps([{name: f"{name}.png" for name in names}]))
    report, worst = tmp_path / "report.json", tmp_path / "worst"
    arguments = [
        "--dataset",
        str(tmp_path / "dataset.json"),
        "--outputs",
        f"ours={tmp_path / 'out'}",
        "--engine",
        "mini",
    ]
    assert main([*arguments, "--report", str(report), "--worst", str(worst)]) == 0
    stored = json.loads(report.read_text())
    assert stored["name"] == "ours" and stored["summary"]["valid_pixel_samples"] == 1
    assert stored["honest"]["out_of_region_psnr"]["value"] > 35  # mostly the query's own pixels
    assert (worst / "ours.png").is_file()


def test_asking_for_a_measure_that_is_absent_is_an_error_before_any_scoring(dataset, perfect, tmp_path, capsys):
    arguments = ["--dataset", str(dataset), "--outputs", str(perfect.folder), "--identity", str(tmp_path)]
    assert main(arguments) == 2
    assert "w600k_r50.onnx" in capsys.readouterr().err


def test_a_case_without_an_operation_is_grouped_by_its_instruction(cases):
    bare = CaseFiles(index=0, exemplar_before=cases[0].query, exemplar_after=cases[0].query, query=cases[0].query,
                target=cases[0].query)  # fmt: skip
    assert bare.label == "not stated" and cases[0].label == "nose +"
