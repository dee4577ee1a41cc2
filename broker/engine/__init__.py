"""What happens between a server and a handler, once for every broker; start at `subscription.py`."""
