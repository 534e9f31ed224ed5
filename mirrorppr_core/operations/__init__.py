"""Every retouch that has a name: its table, its motion, its motion on one face.

    llw_table.py, llw.py            the paper's eight simulated operations; llw_exact.py and llw_official.py: two ways
                                    to compute them; llw_feather.py: how they fade
    professional_table.py           the professional operations; professional.py: their motion
    body_forms.py                   the body operations in the forms measured on a commercial tool
    atoms.py, bank.py               what an exemplar is compared with: every named motion on one face
    sliders.py                      named operations by amount, as numbers and lines; on_body.py: those of the body
    known_pushes.py                 which of them an exemplar of a body shows

To add a professional operation: one row of professional_table.py. It is then drawn by the data engine, shown by
training.contact_sheet, and known to the next set that is trained (bundled sets keep the names they were trained with).
To add a simulated operation: one row of llw_table.py.
"""
