"""Every error of this package, as one tree.

EmailServiceError       anything below
├── UnknownMailer       `MAIL_URL` names none; the service does not start
├── Claimed             somebody else is sending this email right now; the broker tries the event again
└── MailError           the email could not be handed over; the broker tries the event again
"""


class EmailServiceError(Exception):
    """Something kept this service from sending an email; the text says what."""


class UnknownMailer(EmailServiceError):
    """`MAIL_URL` is none of those that there are."""


class Claimed(EmailServiceError):
    """Another member has the event in hand; either it succeeds, or its claim ends and this one may try."""


class MailError(EmailServiceError):
    """The mail server refused or could not be reached, or the folder could not be written."""
