"""Arithmetic of motion; knows no faces. Tensors are (B, 2, H, W) backward displacements in pixels, x then y.

    displacement.py  warp, resize, compose, length, folds of a displacement; smoothstep
    field.py         a Field: a displacement on one photo, kept on the box where it acts, applied tile by tile
    arithmetic.py    fields one after another, mixed, weakened by place, undone
    similarity.py    scale, rotation, shift: fitted and applied
    crop.py          parts of a photo: the pixels between two corners, and seen through a frame (a similarity)
    st_map.py        a field as absolute positions, for compositing programs
    field_files.py   fields as EXR, TIFF and PNG files, and back
    unfold.py        no motion may fold the picture over itself

A new law of displacements belongs in displacement.py, with its test in tests/core/geometry/.
"""
