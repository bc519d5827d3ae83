"""The e3nn lite run: a pipeline check of two epochs on a small subset."""

import sys

from crystrata.cli.train import EntryPoint, main

if __name__ == "__main__":
    sys.exit(main(entry=EntryPoint("train_multitask_lite.py", "e3nn", "lite", ("lite",), ())))
