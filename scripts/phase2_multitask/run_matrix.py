"""The model matrix: every tier as nine specialists and one multi-task network, with the CGCNN baseline."""

import sys

from crystrata.cli.several_runs import matrix

if __name__ == "__main__":
    sys.exit(matrix())
