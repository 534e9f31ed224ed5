"""Pictures for, training and benchmark of, the body network.

    data.py          portraits with joints, and crops of them; drawn_bodies.py: bodies for rehearsals
    stage.py         the stage of the curriculum
    benchmark.py     Benchmark B: a body retouch from one person to another

To add a body operation to the benchmark: a row of mirrorppr_core/operations/professional_table.py with `on_body`.
"""
