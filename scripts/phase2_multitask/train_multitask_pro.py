"""The e3nn pro run, the max run and the competition profile with the same network."""

import sys

from crystrata.cli.train import Door, main

if __name__ == "__main__":
    sys.exit(main(door=Door("train_multitask_pro.py", "e3nn", "pro", ("pro", "max"), ("competition",))))
