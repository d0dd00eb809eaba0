"""`python -m precsim` is the command `precsim`."""

import sys

from precsim.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
