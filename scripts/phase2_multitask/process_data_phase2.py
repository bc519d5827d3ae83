"""Build the graph store ahead of training (optional)."""

import sys

from crystrata.cli.store import main

if __name__ == "__main__":
    sys.exit(main())
