"""`python -m crystrata`: the console command where its script is not on the path."""

import sys

from crystrata.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
