"""Is anything lost? `python ledger.py` counts every registered user; see `demo/ledger.py` for how, and `--help`."""

import sys

if __name__ == "__main__":
    try:
        from demo.ledger import main
    except ImportError as error:  # Python's own status for that is 1, which says that somebody is lost
        print(f"ledger: {error}: `make setup` installs what it needs into .venv", file=sys.stderr)
        sys.exit(2)
    sys.exit(main())
