"""Stages, samples and tables of the small engine.

    config.py        where samples come from and how they are drawn
    engine.py        rows of the curriculum to modules, results to later stages
    face_set.py      portraits as tables: crops, shapes, motions; drawn_faces.py: faces for rehearsals
    samples.py       training samples in the canonical view; part_operations.py, view_batches.py: what they are made of
    stages.py        one module a stage; examiner.py: held-out scores and sheets

To add a stage: its module in stages.py, its name in engine.py's tables, its row in training/curriculum.py.
"""
