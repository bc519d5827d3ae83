"""A specialist for one property, at any level."""

import sys

from crystrata.cli.train import EntryPoint, main

if __name__ == "__main__":
    sys.exit(main(entry=EntryPoint("train_singletask.py", single_task=True)))
