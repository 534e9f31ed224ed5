"""Training, data and evaluation. Programs stand on top, one for each `python -m training.NAME`; folders hold the rest.

    data/ -> recipes/ -> shards/, released/ -> runs/ -> evaluation/ -> locator/, body/, tools/, mini/, qwen/
    -> programs

Folders import downwards only, in this order from the left. How the parts fit: training/README.md.

To add a program: a file here with `main(arguments=None) -> int` that says what it does in its docstring, run through
program.run: a mistake is one line and exit code 2.
To add a stage: a row in curriculum.py, its module in mini/stages.py (or the engine's own) and in the engine's table.
To add a preset: a function in presets.py and its name in PRESETS.
To add an engine: a folder with an engine.py (check and build) and a line in runs/preset.py ENGINES.
To add a benchmark of quality: a program here and its cases in evaluation/; of speed: a script in tests/benchmarks/.
"""

from mirrorppr_core.commands.waiting import wait_passively

wait_passively()  # here, because it must come before torch is imported by any program or worker
