"""The method. Knows torch; knows nothing of ComfyUI. Folders import downwards only, in this order from the bottom:

    file_writing.py  the one way in which files are written: complete or absent
    wording.py       messages of one sentence;  picture_guard.py: the one way in which picture files are opened
    images.py, photo_files.py, weights_file.py, settings_file.py    what a picture tensor is, picture files,
                     safetensors files, settings out of JSON
    stopping.py      how long work is stopped by whoever started it
    one_thread.py    work whose result shall not depend on the number of threads
    side_by_side.py  independent pieces of work at the same time
    windows.py       means and extremes over windows of a picture
    photo_depth.py, photo_metadata.py, photo_saving.py    16 bits, what a file carries beside pixels, how it is written
    exemplar.py      the pair: one photo before and after, and whether two pictures can be that
    records.py       frozen dataclasses as JSON and named tensors, for operation files
    geometry/        arithmetic of motion, no faces: displacements, fields, similarities, crops, folds
    motion/          what moved between two pictures, measured; reprojection
    faces/           landmarks, the locator, whose face is meant, the canonical view
    bodies/          joints, parts, motion carried from one body to another
    operations/      every retouch that has a name, and its motion on one face or body
    networks/        the parts of the paper's figure: MAE, R-Former, connector, DiT, LoRA, flow matching
    mini/            our small engine: a pair to an operation, an operation and a photo to a field
    qwen/            the paper's own system at its own dimensions
    albums/          one operation on a whole shoot: resumable, with a report
    commands/        the command line, one file a command
    weights/         the bundled set and its model card

To read the method from the top: mini/pipeline.py, then mini/extractor.py and mini/editor.py, then downwards.

To add an engine: a folder beside mini/ and qwen/ that turns an Exemplar into an operation and an operation and a photo
into a geometry.field.Field; its nodes in a folder of nodes/; its training in a folder of training/ and a line in
training/runs/preset.py ENGINES; its choice in commands/retouch.py.

Import from the files themselves; this one imports nothing.
"""
