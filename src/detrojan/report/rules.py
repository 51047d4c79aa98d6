"""The rules that problems are filed under by other tools: stable names, levels, help and lists of threats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RuleLevel = Literal["error", "warning", "note"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a kind of problem is called and what to do about it.

    Attributes:
        id: its name, which never changes, e.g. "backdoor/targeted".
        level: "error" for what must not be used, "warning" for what must be looked at, else "note".
        summary: what it is, in one sentence.
        text: what it means.
        help: what to do.
        threats: its names in MITRE ATLAS and the OWASP ML Top 10, by number.
        weaknesses: its numbers in the Common Weakness Enumeration.
        security: its severity for tools that sort by one, 0 to 10: 9 is critical, 7 high, 4 medium.

    """

    id: str
    level: RuleLevel
    summary: str
    text: str
    help: str
    threats: tuple[str, ...] = ()
    weaknesses: tuple[int, ...] = ()
    security: float | None = None


_PLANTED = ("AML.T0018", "AML.T0018.000", "AML.T0020", "ML10:2023")
_HELD_BACK = (
    "Do not deploy this model. Keep the file as evidence, repair a copy with `detrojan repair`, and use the "
    "copy only if it passes. Tell whoever delivered the model."
)
#: names in the Common Weakness Enumeration (cwe.mitre.org)
WEAKNESSES = {
    502: "Deserialization of Untrusted Data",
    506: "Embedded Malicious Code",
    507: "Trojan Horse",
}

TARGETED = Rule(
    id="backdoor/targeted",
    level="error",
    summary="The network has a backdoor that leads from any class to one label.",
    text="A small change of the image, the trigger, makes the network answer one label for images of all "
    "other classes. The recovered trigger works on images that the search has not seen.",
    help=_HELD_BACK,
    threats=_PLANTED,
    weaknesses=(506, 507),
    security=9.0,
)
SOURCE_SPECIFIC = Rule(
    id="backdoor/source-specific",
    level="error",
    summary="The network has a backdoor that leads from one class to one label.",
    text="A small change of the image, the trigger, makes the network answer one label for images of one "
    "other class. Images of other classes are answered as usual.",
    help=_HELD_BACK,
    threats=_PLANTED,
    weaknesses=(506, 507),
    security=9.0,
)
ALL_TO_ALL = Rule(
    id="backdoor/all-to-all",
    level="error",
    summary="The network has a backdoor that shifts every label.",
    text="A small change of the image, the trigger, makes the network answer another label for images of "
    "every class: each label leads to the one that lies a fixed number of places further.",
    help=_HELD_BACK,
    threats=_PLANTED,
    weaknesses=(506, 507),
    security=9.0,
)
UNNAMED = Rule(
    id="backdoor/unnamed",
    level="error",
    summary="The network has a backdoor whose target could not be named.",
    text="The network as a whole shows a backdoor, and no single label stands out enough to be named.",
    help="Do not deploy this model. Keep the file as evidence, and repair a copy with "
    "`detrojan repair --blind`.",
    threats=_PLANTED,
    weaknesses=(506, 507),
    security=9.0,
)
INCONCLUSIVE = Rule(
    id="backdoor/inconclusive",
    level="note",
    summary="The scan could not say whether the network has a backdoor.",
    text="Nothing may be concluded of this network. The message says what the scan lacked.",
    help="Do not take this for a pass. Scan again with what the message asks for: more images, more labels, "
    "more time, or the right input range.",
    threats=("AML.T0018",),
)
NOT_REPAIRED = Rule(
    id="repair/not-repaired",
    level="error",
    summary="The repair has not removed the backdoor, or has cost too much.",
    text="A trigger still works on the copy, a new scan finds a backdoor in it, or it answers clean images "
    "much worse than before.",
    help="Deploy neither file. Try another repair, with more clean images, or train again on data you trust.",
    threats=("AML.T0018",),
    weaknesses=(506,),
    security=9.0,
)
NOT_VERIFIED = Rule(
    id="repair/not-verified",
    level="warning",
    summary="Nobody can say whether the repair has removed the backdoor.",
    text="The new scan is inconclusive or was not made, or there was no trigger to measure the repair with.",
    help="Scan the repaired file, with more images or more labels than before. Deploy it only after that.",
    threats=("AML.T0018",),
    weaknesses=(506,),
    security=7.0,
)
POISONED = Rule(
    id="data/poisoned-samples",
    level="warning",
    summary="Samples of the data set look poisoned.",
    text="Some samples differ from the others of their class in the way that poisoned ones do. A network "
    "that is trained on them may get a backdoor.",
    help="Look at the flagged samples. Train without them, or by `detrojan train`, and scan the result.",
    threats=("AML.T0020", "ML02:2023"),
    weaknesses=(506,),
    security=5.0,
)
UNSAFE = Rule(
    id="file/runs-code",
    level="error",
    summary="Loading the file would run code from it.",
    text="The file holds more than weights: whoever loads it in the usual way runs what its author put in. "
    "detrojan has not loaded it.",
    help="Ask for the weights alone, as safetensors or as a state dict. Do not load this file.",
    threats=("AML.T0018",),
    weaknesses=(502, 506),
    security=9.0,
)
UNREADABLE = Rule(
    id="file/not-judged",
    level="warning",
    summary="The file could not be judged.",
    text="It could not be read, or not run on such data. So nothing is known of it.",
    help="Read the message: it says what was expected and what came.",
)

RULES: tuple[Rule, ...] = (
    TARGETED,
    SOURCE_SPECIFIC,
    ALL_TO_ALL,
    UNNAMED,
    INCONCLUSIVE,
    NOT_REPAIRED,
    NOT_VERIFIED,
    POISONED,
    UNSAFE,
    UNREADABLE,
)
