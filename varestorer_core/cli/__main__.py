"""`python -m varestorer_core.cli` runs the `varestorer` command if scripts are not on the path."""

import sys

from .main import main

if __name__ == "__main__":
    sys.exit(main())
