"""What the services have agreed on with everybody else: events, APIs and their schemas; start at `events.py`."""
