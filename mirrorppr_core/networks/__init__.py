"""The parts of the paper's figure, each at any size. config.py holds their settings and the name of a matched set.

    config.py        every setting as frozen dataclasses, and the id of a set
    vit.py           the layer that MAE and R-Former share; mae.py, rformer.py: what reads the pair
    connector.py     operation tokens -> conditioning tokens
    dit.py           the dual-stream DiT; lora.py: adapters on it; flow.py: flow matching

To add a network: its file here, its settings in config.py, its part in mini/files.py or qwen/files.py.
"""
