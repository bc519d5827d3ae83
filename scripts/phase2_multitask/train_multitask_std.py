"""The e3nn std run, and the smoke run with the same network."""

import sys

from crystrata.cli.train import EntryPoint, main

if __name__ == "__main__":
    sys.exit(main(entry=EntryPoint("train_multitask_std.py", "e3nn", "std", ("smoke", "std"), ("leaderboard",))))
