"""A retouch as data, laid on a portrait; views and looks; quadruplets drawn while training.

    recipe.py                operations with strengths, drawn, applied, written down
    placed_steps.py          the motion of a recipe where it acts; pushes.py, lattice.py: fast evaluation
    warp.py                  the pixels
    augment.py, photometry.py    other framing, other light
    quadruplets.py           exemplar pair, query and its truth, as a function of a number

To add an operation: a row in mirrorppr_core/operations/. To add a look: photometry.py.
"""
