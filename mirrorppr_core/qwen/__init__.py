"""The Qwen engine: the paper's own system on Qwen-Image-Edit, with the released MirrorPPR files.

    config.py, networks.py, patch_order.py        dimensions; MAE-Large and the R-Formers; the order of their patches
    extractor.py, operation_file.py               pair -> operation; kept in a file
    fingerprints.py, files.py, lora_files.py      what is on disk, told by looking
    sizes.py, conditioning.py, latents.py         what the DiT is told
    schedule.py, denoise.py, numerics.py          the walk from noise, and the reference's two deviations
    window_order.py                               a bug of some hosts
    standalone.py, album.py, report.py            all of it on diffusers, without ComfyUI

To add a kind of released file: a row in files.py KINDS and its fingerprint in fingerprints.py.
"""
