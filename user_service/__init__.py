"""The user service: HTTP in, one transaction (user and outbox row), relay out. Read `registration.py` first."""
