"""The commands of `yourbert`, a file each: HELP and DESCRIPTION, `add` its options, `run` it.

A command imports what it needs when it is run, so that `--help` and a wrong word are answered at once, without torch.
"""
