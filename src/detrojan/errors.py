"""Everything that detrojan raises on purpose.

::

    DetrojanError
    ├── InputError              what was handed in cannot be used (exit code 2)
    │   ├── ModelError          a model that cannot be read or run
    │   │   ├── UnsafeFileError     reading it would execute code from the file
    │   │   ├── WeightsError        the weights do not fit the network
    │   │   ├── AnswersOnlyError    more than answers is needed of a model that gives nothing else
    │   │   ├── EndpointError       a server is away, or answers with an error
    │   │   └── NonFiniteError      a model's scores are NaN or infinite
    │   ├── RefusedError        a request that a service does not answer
    │   └── DataError           data that cannot be read or do not fit the model
    │       ├── RangeError          pixel values outside the stated range
    │       └── LabelError          labels missing, or beyond the model's classes
    ├── BackdoorFoundError      training ended with a backdoor in the network (exit code 1)
    ├── MissingExtraError       an optional library is not installed (exit code 2)
    ├── OptionError             hyper-parameters or options that contradict each other (exit code 4)
    └── InterruptedRunError     the run was stopped; what was computed is saved (exit code 2)
"""

from __future__ import annotations

from collections.abc import Mapping


class DetrojanError(Exception):
    """Base of every error that detrojan raises on purpose."""

    exit_code = 2


class InputError(DetrojanError):
    """Something that was handed in cannot be used."""


class ModelError(InputError):
    """A model cannot be read, or does not run."""


class UnsafeFileError(ModelError):
    """Reading the file would execute code from it, and nobody allowed that."""


class WeightsError(ModelError):
    """The weights do not fit the network, or are not finite numbers."""


class AnswersOnlyError(ModelError):
    """Weights, layers or gradients are needed of a model that only answers."""


class EndpointError(ModelError):
    """A server that has the model is away, slow, or answers with an error.

    Attributes:
        said: what came instead of an answer, without the server's address.
        status: the HTTP status, or None where no answer came.

    """

    def __init__(self, text: str, said: str, status: int | None = None) -> None:
        super().__init__(text)
        self.said, self.status = said, status


class NonFiniteError(ModelError):
    """A model that only answers gave scores that are NaN or infinite."""


class DataError(InputError):
    """Data cannot be read, or do not fit the model."""


class RangeError(DataError):
    """Pixel values lie outside the stated range."""


class LabelError(DataError):
    """Labels are missing, or lie beyond the classes of the model."""


class RefusedError(InputError):
    """A service does not answer a request.

    Attributes:
        reason: in a word or two, as it is counted.
        status: the HTTP status.
        headers: of the response.

    """

    def __init__(self, reason: str, text: str, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(text)
        self.reason, self.status, self.headers = reason, status, dict(headers)


class BackdoorFoundError(DetrojanError):
    """A callback found a backdoor when training ended; the message is the report's text."""

    exit_code = 1


class MissingExtraError(DetrojanError):
    """An optional library is needed; the message holds the exact installation command."""

    def __init__(self, library: str, extra: str, what: str = "") -> None:
        needed = f", which {what} need" if what else ""
        super().__init__(
            f'{library} is not installed{needed}; install it with: pip install "detrojan[{extra}]"'
        )
        self.library = library
        self.extra = extra


class OptionError(DetrojanError):
    """A hyper-parameter is outside its range, or options contradict each other."""

    exit_code = 4


class InterruptedRunError(DetrojanError):
    """The run was stopped before its end; finished parts are in its checkpoint."""
