"""The e3nn pro run, the max run and the competition profile with the same network."""

import sys

from crystrata.cli.train import EntryPoint, main

if __name__ == "__main__":
    sys.exit(main(entry=EntryPoint("train_multitask_pro.py", "e3nn", "pro", ("pro", "max"), ("competition",))))
