"""An endless family of random tools: what a retoucher's software may do to a face, as programmes for any face.

steps.py    pushes, pulls, scales and turns around landmarks, parts and contours, in units of the face
webs.py     control points moved by a rule, everything between them interpolated
family.py   faces with many tools done to them; samples of several tools together, on exemplars and a query

Kept apart from evaluation/held_out_tools.py by construction: other windows, other units, other anchors.
"""
