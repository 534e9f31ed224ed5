"""One operation on a whole shoot: which photos, what is done already, and how sure each result is.

    photos.py        the photos of a folder, in order, each with the name of its result
    journal.py       what is done, on disk: survives kill -9, and the same command goes on
    doubt.py         how doubtful a result is: the order in which a person looks at them
    run.py           photo after photo in constant memory; reading and writing beside the work
    sheet.py         all results on one picture, the most doubtful first

The engine comes in as a function from a photo to a Retouched, so that any engine can do an album.
To add something that is told of every photo: run.described.
"""
