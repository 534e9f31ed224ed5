"""Which points a face has, finding them, whose face is meant, and the view in which all faces agree.

    landmarks.py     the 130 points and the 478-point mesh
    networks.py      finder and landmark networks; locator.py: photo -> faces
    search.py        all faces of a photo of any size, small and turned ones too
    choice.py        which of several faces is meant
    parts.py         eyes, brows, nose, mouth, contour, hair, body as weights on the photo
    view.py          the canonical face view: motion between photo and view

To add a way to choose a face: choice.py, and FACE_NUMBERS' neighbours in nodes/sockets.py.
"""
