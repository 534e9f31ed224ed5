"""The Qwen engine: the paper's own system on Qwen-Image-Edit, with the released MirrorPPR files.

In reading order: config (dimensions), official (MAE, R-Formers), patch_order, extractor (pair -> operation),
fingerprints and files (what is on disk), lora_files, sizes and conditioning (what the DiT is told), latents, schedule,
denoise (the walk), numerics (the reference's two deviations), window_order (a bug of some hosts), standalone (all of
it on diffusers, without ComfyUI).
"""
