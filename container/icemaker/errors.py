"""The errors a run tells its user about. Knows nothing of SageMaker, models or data."""


class UserError(Exception):
    """Caused by the caller's settings, data or machine; its text is the whole message.

    The text says what is wrong, with the value, what is allowed, and what to do. It is shown without a traceback
    and becomes the first line of the failure file.
    """


class StopRequested(Exception):
    """The run was asked to stop (SIGTERM, SIGINT) and unwinds to the place that saves what there is."""
