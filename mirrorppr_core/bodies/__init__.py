"""Joints, parts, and motion beside the face carried from one body to another.

    pose.py          seventeen joints, wherever they come from, and finding them; pose_network.py: the network for it
    given.py         joints from OpenPose JSON; mediapipe_pose.py: from MediaPipe, where it is installed
    head.py          people whose face is not found: where their joints say the head is
    sources.py       whose joints count for a face, and the body that they make with it
    plausible.py     whether these can be that person's joints
    frames.py        the parts of a body, each with its own frame; unit.py: how large a body is drawn
    families.py      the bank: operations as lobes in the frames of parts; fit.py: which of them an exemplar shows
    part_map.py      any other motion, as splines over the parts
    named.py         our own operations of the body, whose formulas others bring
    motion.py        the body's part of an operation: told on the exemplar, made on the query
    transfer.py      from pixels to a field; words.py: what a user is told of it

To add a family: a row of families.FAMILIES. To add a part: a frame in frames.frames_of and, for the map, a chart in
part_map.CHARTS. Named body operations are rows of operations/professional_table.py.
"""
