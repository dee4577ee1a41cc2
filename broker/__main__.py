"""The broker from the command line: `python -m broker --help`. The commands are in `cli/main.py`."""

import sys

from broker.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
