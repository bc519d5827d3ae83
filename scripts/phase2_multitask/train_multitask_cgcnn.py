"""The CGCNN baseline at any level."""

import sys

from crystrata.cli.train import EntryPoint, main

if __name__ == "__main__":
    sys.exit(main(entry=EntryPoint("train_multitask_cgcnn.py", "cgcnn", "std")))
