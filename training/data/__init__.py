"""Portraits, pictures and landmarks as they lie on disk. The only place that opens portraits.csv and landmarks.npz.

    picture_files.py         a file -> upright RGB, or the reason why not
    landmarks.py             what a mesh and a pose are, and whose they are
    landmark_sources.py      where they come from: a file, our locator, MediaPipe (mediapipe_landmarks.py)
    body_labels.py           people in pictures and their joints: bodies/ and the poses of the portraits
    portrait_folder.py       any folder of portraits as a list
    labelled.py              those of a folder whose faces are known: what stages and benchmarks read
    order.py                 random orders without tables; packed_pixels.py: pixels as one number each

To add a source of landmarks: a class with `find` (landmarks.LandmarkSource) and its name in landmark_sources.py KINDS.
"""
