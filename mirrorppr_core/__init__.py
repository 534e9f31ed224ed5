"""The method, in reading order. Knows torch; knows nothing of ComfyUI.

    pipeline.py      what a user sees: extract an operation, apply it
    extractor.py     before + after -> Operation                operation.py  what an Operation holds
    editor.py        Operation + photo -> Field -> photo        faces.py      whose face

    locator.py       photo -> faces and landmarks               landmarks.py, locator_nets.py
    views.py         the canonical face view                    unfold.py     no motion folds the face
    body.py          what moved beside the face                 body_view.py, body_bones.py, body_points.py, body_net.py
    motion.py        before + after -> measured motion          motion_solver.py, motion_clean.py
    fields.py        arithmetic of displacement                 apply.py      a Field on a large photo

    mae.py, rformer.py, connector.py, dit.py, field_dit.py      the networks; vit.py: their common layer
    lora.py, flow.py, codecs.py                                 adapters, flow matching, what a latent is
    config.py, checkpoint.py, network_file.py                   settings and files of a matched set

    professional.py  the 27 professional operations as fields   professional_operations.py
    known_operations.py, operation_bank.py, bank_fit.py         named operations on a face, found in a motion
    reproject.py     any editor's output -> the original's own pixels, moved
                     alignment.py, residual.py, bridging.py     shift and zoom, what a warp cannot explain, gaps
    warping.py       simulated retouching (LLW)                 llw_operations.py, llw_exact.py, llw_feather.py,
                                                                llw_official.py
    qwen/            the paper's own system at its own dimensions
    metrics.py, images.py, photo_files.py                       scores, checks, files
    cli.py           the command line                           *_command.py: one command each

Import from the files themselves; this one imports nothing.
"""
