"""What is said of a Sigma rule that is not imported."""


class Refused(Exception):
    """A Sigma rule, or a part of one, that cannot be said in the notation of rules; the text is the reason."""
