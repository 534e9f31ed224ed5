"""Pictures for, and scores of, the face locator.

    data.py          crops for the landmark networks; finder_data.py: canvases for the finder
    scores.py        how good it is on portraits it never saw

To add a disturbance of its pictures: data.degrade.
"""
