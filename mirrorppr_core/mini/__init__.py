"""Our small engine: a pair to an operation, an operation and a photo to a field; the files of its sets.

pipeline.py      what a caller sees
extractor.py     exemplar -> operation;  operation.py: what one holds
editor.py        operation + photo -> field -> photo
sight.py         what both see with: locator, view, MAE and body network of one set, loaded once
field_dit.py     the network that predicts motion; codec.py: what its latents mean; bank_fit.py: named operations
                 found in a motion
files.py         files of a matched set
"""
