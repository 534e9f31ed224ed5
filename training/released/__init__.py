"""The layouts of the published data sets, MirrorPPR47M and SimFace-100.

    rows.py          checked values of one row; formats.py: the typed records; compose.py: tiles back to photos

To add a layout: a reader in formats.py that yields its records, and its detection in training/qwen/released_pairs.py.
"""
