"""The dispatcher of the phase-2 suite: an algorithm and a level (or the competition profile) become one run."""

import sys

from crystrata.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
