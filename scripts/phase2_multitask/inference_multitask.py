"""Predict properties from structure files with a trained run."""

import sys

from crystrata.cli.predict import main

if __name__ == "__main__":
    sys.exit(main())
