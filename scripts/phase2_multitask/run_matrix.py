"""The model matrix: every tier as nine specialists and one multi-task network, with the CGCNN baseline."""

import sys

from crystrata.cli.matrix import main

if __name__ == "__main__":
    sys.exit(main())
