"""The email service: event in, at most one email out. Read `consumer.py` first, `inbox.py` second."""
