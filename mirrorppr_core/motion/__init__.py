"""What moved between two pictures, measured; and the same done to the original's own pixels.

    estimate.py      dense motion from before to after, coarse to fine; solver.py: its linear system
    clean.py         what of it is the edit: the global part taken out, noise silenced
    alignment.py     how far the edited picture as a whole has slipped
    pairing.py       the after picture laid on the before picture; explained.py: motion told from paint, and what
                     helps it: sharpness.py, tone.py; faint.py: small edits
    residual.py      what no warp explains; bridging.py: motion carried across such places
    reproject.py     any editor's output -> a field on the original

A new kind of change that is no motion (paint, a new background) is told apart in explained.py.
"""
