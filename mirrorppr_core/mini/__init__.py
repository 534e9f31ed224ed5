"""Our small engine: a pair to an operation, an operation and a photo to a field; the files of its sets.

pipeline.py      what a caller sees
several.py       pairs of one look -> one operation; an operation and a correction -> a better one
extractor.py     exemplar -> operation; close_up.py: its face; findings.py, not_transferred.py: what to know about it
confidence.py    how sure a reading and a retouch are;  sequence.py: frames of one person
operation.py     what one holds
editor.py        operation + photo -> field -> photo;  person.py: one operation on one face; trust.py: how much of
                 the network's answer is taken
arithmetic.py    operations made of operations: scaled, undone, combined, blended, limited
explain.py       which named operations an operation looks like
operation_file.py  operations kept in files;  reuse.py: files made fit for another set
sight.py         what both see with: locator, view, MAE and body network of one set, loaded once
field_dit.py     the network that predicts motion; codec.py: what its latents mean; bank_fit.py: named operations
                 found in a motion
transport.py     how a motion without a name is laid on a face;  mixture.py: of which pairs a face is made up
carry.py         the network that adapts it;  places.py: where in the view it looks
files.py         files of a matched set;  set_list.py: their hashes

To add a part to an operation (a dataclass of tensors and plain values): its field in operation.py with a default, and
its name in operation_file.py TYPES; files carry it from then on. To add a law: arithmetic.py, and TYPES.
"""
