"""The CGCNN baseline at any level."""

import sys

from crystrata.cli.train import Door, main

if __name__ == "__main__":
    sys.exit(main(door=Door("train_multitask_cgcnn.py", "cgcnn", "std")))
