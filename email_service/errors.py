"""Every error of this package, as one tree.

EmailServiceError       anything below
├── UnknownMailer       `MAIL_URL` names none; the service does not start
├── Claimed             somebody else is sending this email right now; the broker tries the event again
└── MailError           the email could not be handed over; the broker tries the event again
    └── RecipientRefused    and never can be: the event is a dead letter at once
"""


class EmailServiceError(Exception):
    """Something kept this service from sending an email; the text says what."""


class UnknownMailer(EmailServiceError):
    """`MAIL_URL` is none of those that there are."""


class Claimed(EmailServiceError):
    """Another member has the event in hand; either it succeeds, or its claim ends and this one may try."""


class MailError(EmailServiceError):
    """For now: the mail server cannot be reached or does not want us, or the folder cannot be written."""


class RecipientRefused(MailError):
    """For good: the mail server does not take an email for this recipient; the text has its words."""
