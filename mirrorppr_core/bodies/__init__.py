"""Joints, bones, and motion beside the face carried from one body to another.

    network.py       the network that sees joints; joints.py: the joints of a person in a photo, and the network's file
    pose.py          seventeen joints, wherever they come from, and finding them; pose_network.py: the network for it
    bones.py         from one body to another, bone by bone
    motion_map.py    the motion beside the face, on the exemplar's body and on the query's
    transfer.py      reading it, carrying it, and the words for it

Named body operations are rows of operations/professional_table.py.
"""
