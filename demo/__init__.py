"""The whole application on this machine, for people who look, break and count; start at `__main__.py`."""
