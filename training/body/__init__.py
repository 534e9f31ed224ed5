"""Pictures for, training and scores of, the pose network; and the benchmark of body retouches.

    data.py          pictures of people, and how far each joint of their labels is believed
    crops.py         the squares that training draws from them; drawn_bodies.py: bodies for rehearsals
    stage.py         the stage of the curriculum; trust.py: how far its answers can be trusted, on other people
    scores.py        how well joints are found in whole pictures (python -m training.evaluate_body)
    benchmark.py     Benchmark B: a body retouch from one person to another; style_cases.py: with other tools
    straight_lines.py  whether lines of the background stay straight

To add a body operation to the benchmark: a row of mirrorppr_core/operations/professional_table.py with `on_body`.
"""
