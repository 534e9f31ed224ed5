"""Score folders of outputs, of any tool, on cases in the format of SimFace-100.

    python -m training.evaluate --dataset dataset.json --outputs FOLDER
    python -m training.evaluate --dataset dataset.json --outputs ours=DIR peer=DIR --report OUT.json --markdown OUT.md
    python -m training.evaluate --dataset dataset.json --outputs FOLDER --engine mini --controls 4
    python -m training.evaluate --dataset dataset.json --outputs FOLDER --engine qwen --weights SET --base BASE

Two blocks: the published protocol's numbers, and what they hide (scores.py). training/make_cases.py makes such cases
from any portraits. Exit status: 0 all was scored, 1 outputs are missing (named; --allow-missing makes that 0, the
report still counts them), 2 nothing was scored.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mirrorppr_core.file_writing import replacing, write_file
from mirrorppr_core.mini.editor import RetouchConfig
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.photo_files import prepare_folder

from .evaluation.engines import Retouch, mini_retouch, qwen_retouch, run_engine
from .evaluation.outputs import COPY_QUERY, PUBLISHED_PATTERN, Tool, evaluate, load_cases
from .evaluation.perceptual import LearnedMeasures, load_identity, load_lpips
from .evaluation.report import Evaluation, to_json, to_markdown
from .evaluation.sheet import draw_sheet, worst_cases
from .program import Parser, run
from .released.formats import RESOLUTIONS

OURS = ("mini", "copied", "qwen")  # copied: Mini without its network, the exemplar's motion as it is


def named_folders(texts: Sequence[str]) -> list[Tool]:
    """NAME=FOLDER, or FOLDER alone, which is called by its own name."""
    tools = []
    for text in texts:
        name, separator, folder = text.partition("=")
        path = Path(folder if separator else text)
        tools.append(Tool(name if separator else path.resolve().name, path))
    names = [tool.name for tool in tools]
    twice = sorted({name for name in names if names.count(name) > 1 or name in ("", COPY_QUERY)})
    if twice:
        raise ValueError(f"--outputs: the names {', '.join(map(repr, twice))} cannot be told apart: write NAME=FOLDER")
    return tools


def _work(options: argparse.Namespace) -> int:
    """Returns the exit status. Raises ValueError, OSError or ImportError before any scoring."""
    if options.worst and options.official:
        raise ValueError("--worst ranks by relEPE, which --official leaves out: drop one of them")
    if options.controls < 0 or (options.controls and not options.engine):
        raise ValueError(f"--controls {options.controls}: 0 or more, and only with --engine")
    if options.engine != "qwen" and (options.base or options.generated):
        raise ValueError("--base and --generated are the Qwen engine's: add --engine qwen")
    tools = named_folders(options.outputs)
    cases = load_cases(options.dataset, resolution=options.resolution, operations=options.operations)
    learned = LearnedMeasures(
        lpips=load_lpips() if options.lpips else None,
        identity=load_identity(options.identity) if options.identity else None,
    )
    if options.engine:
        run_engine(_engine(options), cases, tools[0].folder, control_every=options.controls)
    absent = [str(tool.folder) for tool in tools if not tool.folder.is_dir()]
    if absent:
        raise FileNotFoundError(f"no such folder: {', '.join(absent)}. --outputs names the folders with the pictures")
    results = evaluate(cases, tools, pattern=options.pattern, learned=learned, only_official=options.official)
    evaluation = Evaluation(cases, results, learned, only_official=options.official)
    report = to_markdown(evaluation)
    print(report)
    if options.markdown:
        write_file(options.markdown, report)
    if options.report:
        write_file(options.report, json.dumps(to_json(evaluation), indent=1, allow_nan=False))
    if options.worst:
        prepare_folder(options.worst)
        for result in evaluation.tools:
            worst = worst_cases(cases, result, options.num_worst)
            with replacing(options.worst / f"{result.name}.png") as stream:
                draw_sheet(worst, result).save(stream, format="PNG")
    num_missing = sum(len(result.missing) for result in results)
    if num_missing:
        print(f"{num_missing} outputs are missing", file=sys.stderr)
    return 1 if num_missing and not options.allow_missing else 0


def _engine(options: argparse.Namespace) -> Retouch:
    if options.engine == "qwen":
        if options.weights is None or options.base is None:
            raise ValueError("--engine qwen needs --weights (a set) and --base (a diffusers folder of Qwen-Image-Edit)")
        return qwen_retouch(
            options.weights,
            options.base,
            device=options.device,
            num_steps=options.steps,
            seed=options.seed,
            guidance=options.guidance,
            generated=options.generated,
        )
    model = MirrorPPR.from_folder(options.weights) if options.weights else MirrorPPR.bundled()
    return mini_retouch(model, RetouchConfig(refine=options.engine == "mini", face="largest"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("evaluate", __doc__)
    parser.add_argument("--dataset", type=Path, required=True, help="dataset.json; its folder is the root of its paths")
    parser.add_argument("--outputs", nargs="+", required=True, metavar="[NAME=]FOLDER", help="one for each tool")
    parser.add_argument(
        "--pattern",
        default=PUBLISHED_PATTERN,
        help="name of an output: {index}, {index:04d}, {query}, {target}, {exemplar_before}, {exemplar_after} (stems) "
        "and * (default: %(default)s)",
    )
    parser.add_argument("--resolution", choices=RESOLUTIONS, default="base", help="which inputs; the target is base")
    parser.add_argument("--operations", nargs="+", default=(), metavar="NAME", help="only cases of these operations")
    parser.add_argument("--official", action="store_true", help="only the published protocol, which is much faster")
    parser.add_argument("--allow-missing", action="store_true", help="missing outputs do not fail; they are counted")
    parser.add_argument(
        "--lpips", action="store_true", help="measure LPIPS; needs torchmetrics, torchvision, a network"
    )
    parser.add_argument(
        "--identity", type=Path, metavar="FOLDER", help="measure it; holds InsightFace's models/buffalo_l"
    )
    parser.add_argument("--engine", choices=OURS, help="run ours first, into the first folder of --outputs")
    parser.add_argument("--weights", type=Path, help="with --engine: a matched set; the bundled one by default")
    parser.add_argument("--controls", type=int, default=0, help="with --engine: run them on every n-th case; 0: none")
    qwen = parser.add_argument_group("with --engine qwen, as for `python -m mirrorppr_core retouch`")
    qwen.add_argument("--base", type=Path, help="diffusers folder of Qwen-Image-Edit")
    qwen.add_argument("--device", default="cpu", help="where to compute: cpu or cuda (default: cpu)")
    qwen.add_argument("--steps", type=int, help="of the walk (default: 40)")
    qwen.add_argument("--seed", type=int, help="default: 123")
    qwen.add_argument("--guidance", type=float, default=1.0, help="along the operation; other than 1 costs double")
    qwen.add_argument("--generated", action="store_true", help="score the generated pictures, not the moved photos")
    parser.add_argument("--report", type=Path, help="JSON to write")
    parser.add_argument("--markdown", type=Path, help="Markdown to write")
    parser.add_argument("--worst", type=Path, help="folder for a picture of each tool's worst cases")
    parser.add_argument("--num-worst", type=int, default=12)
    return run(parser, _work, arguments)


if __name__ == "__main__":
    sys.exit(main())
