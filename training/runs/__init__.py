"""The training loop of every stage, and what a run is. Knows no engine.

    stage.py         one row of the curriculum; preset.py: one run
    loop.py          steps, validation, checkpoints; batches.py, aligned.py: what makes them repeatable
    calibration.py   batch norm in a stage
    preflight.py     what is checked before hours are spent
    held_out.py, progress.py     what is seen while a stage trains
    checkpoints.py   complete or absent, refused where they do not fit

To add a reporter: progress.py and REPORTERS in loop.py.
"""
