"""The command line: python -m mirrorppr_core NAME. cli.py finds the commands and reports failure.

To add a command: a file here with `add_parser(subparsers)`, which sets `run`, and its name in cli.py COMMANDS.
`run(options)` prints one JSON object and returns 0 (done), 1 (partly) or 2 (nothing was done). A mistake is a
ValueError or OSError with one sentence; cli.py prints it. source.py: a pair or an operation file, for every command
that retouches; kept.py: an operation file to write, for every command that makes one.
"""
