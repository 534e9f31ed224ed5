"""Pictures for, stages and scores of the face locator.

    data.py          crops for the landmark networks; finder_data.py: canvases for the finder
    stages.py        its three networks as stages of the curriculum, and the ridge regression; engine.py builds them
    scores.py        how good it is on portraits it never saw

To add a disturbance of its pictures: data.degrade.
"""
