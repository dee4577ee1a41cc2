"""The command line of the broker, `python -m broker`; start at `main.py`."""
