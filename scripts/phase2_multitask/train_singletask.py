"""A specialist for one property, at any level."""

import sys

from crystrata.cli.train import Door, main

if __name__ == "__main__":
    sys.exit(main(door=Door("train_singletask.py", single_task=True)))
