"""The one exception that every command turns into one clear line."""


class UserError(ValueError):
    """Something the user gave cannot be used.

    The message is one line: the thing, the value found, what is allowed, and the next step. A list
    may follow in lines that begin with two spaces. Commands print it as ``error: MESSAGE`` and exit
    with 1; a traceback means a defect of ours.
    """
