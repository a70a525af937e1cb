"""`python -m varestorer_core.cli` is the `varestorer` command, for where scripts are not on the path."""

import sys

from .main import main

if __name__ == "__main__":
    sys.exit(main())
