"""Stages, samples and the frozen base of the paper's own system.

    config.py        which networks, adapters, losses; base.py: the frozen DiT with adapters
    encoders.py      the frozen readers, online or from a cache
    pairs.py, shard_pairs.py, released_pairs.py, sources.py, batches.py    samples
    stages.py, flow.py, examiner.py, engine.py                             learning

To add a source of samples: a Pairs (pairs.py) and its name in sources.py.
"""
