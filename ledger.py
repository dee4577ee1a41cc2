"""Is anything lost? `python ledger.py` counts every registered user; see `demo/ledger.py` for how, and `--help`."""

import sys

from demo.ledger import main

if __name__ == "__main__":
    sys.exit(main())
