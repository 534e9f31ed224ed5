"""The nodes of the paper's own system, native in ComfyUI: the host's MODEL, CLIP, VAE and CONDITIONING.

    loaders.py       Load MirrorPPR (Qwen), Apply to Qwen
    operation.py     Extract Operation (Qwen);  operation_files.py: Save and Load Operation (Qwen)
    conditioning.py  Retouch Conditioning (Qwen), Restore Size (Qwen); vision.py is what the model sees
    sampler.py       Retouch Sampler (Qwen)
    sockets.py       the types of these nodes

A new node: as in nodes/__init__.py.
"""
