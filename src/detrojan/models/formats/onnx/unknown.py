"""Operators that are not read: what each of them says of its network."""

from __future__ import annotations

import re

_QUANTISED = re.compile(r"^QLinear|Quantize|Integer$", re.IGNORECASE)
#: operators of networks that do something else, and what
_OTHER_TASKS = {
    **dict.fromkeys(("LSTM", "GRU", "RNN"), "this operator is one of networks that read texts or sounds"),
    "DynamicQuantizeLSTM": "this operator is one of networks that read texts or sounds",
    "ConvTranspose": "this operator is one of networks that answer maps, as for segmentation and detection",
    "NonMaxSuppression": "this operator is one of detectors",
    "RoiAlign": "this operator is one of detectors",
}
_CONTROL = {"If", "Loop", "Scan", "SequenceMap"}


def unknown(op: str, known: int) -> str:
    """Return what to say of an operator that is not read.

    Args:
        op: its name.
        known: how many are.

    """
    if _QUANTISED.search(op):
        return "expected a network of real numbers, got a quantised one; export it before it is quantised"
    if op in _CONTROL:
        return "expected a graph without conditions and loops; export the network with them unrolled"
    if op in _OTHER_TASKS:
        return f"detrojan judges image classifiers, and {_OTHER_TASKS[op]}"
    return f"expected one of the {known} operators that are read, such as Conv and Gemm"
