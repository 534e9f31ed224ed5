"""Data sets on disk: what one is made of, who makes it, how it is written and read.

    spec.py, code_version.py     what decides the bytes of a data set
    pair_maker.py                pair number i; jpeg_strips.py: its pictures
    tar.py, folder.py            shards and the folder that holds them; reader.py: shards for training
    workers.py                   this process, its children, or a Ray cluster

To add a way to work: a function like workers.run_pool and its name in ENGINES.
"""
