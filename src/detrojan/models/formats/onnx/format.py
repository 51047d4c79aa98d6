"""What ONNX files are, and how they are written."""

from __future__ import annotations

from pathlib import Path

from detrojan.errors import ModelError
from detrojan.models.classifier import Classifier
from detrojan.models.formats.base import Content, Format
from detrojan.models.formats.onnx.external import weight_files
from detrojan.models.formats.onnx.files import read_onnx
from detrojan.models.formats.onnx.proto import MAX_BYTES
from detrojan.models.formats.onnx.write import write_onnx
from detrojan.models.formats.protobuf import outer_fields
from detrojan.models.weights import Architecture, Loaded

#: fields of an ONNX model: version of the format, producer, its version, domain, model version, text, graph,
#: versions of the operators, metadata, training, functions, devices
_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_GRAPH, _OPERATORS = 7, 8


class OnnxFile(Format):
    """A graph of ONNX operators with its weights."""

    name = "onnx"
    kind = "an ONNX file (.onnx)"
    listed = ((".onnx", "graph of standard operators, its weights in it or beside it; needs the extra onnx"),)
    suffixes = (".onnx",)
    channels_first = True
    copies = True
    precedence = 40

    def recognises(self, content: Content) -> bool:
        """Tell whether a file has the outermost fields of an ONNX model, a graph among them."""
        if (
            content.is_folder
            or content.is_zip
            or content.head[:1] not in {b"\x08", b"\x12", b"\x3a", b"\x42"}
        ):
            return False
        found = outer_fields(content.path)
        if not found or _GRAPH not in found or _OPERATORS not in found:
            return False
        return all(_FIELDS.get(number) == kind for number, kind in found.items())

    def files(self, path: Path) -> tuple[Path, ...]:
        """Return the file, and those beside it that hold weights of it."""
        return (path, *weight_files(path).values())

    def endings(self, model: Classifier) -> tuple[str, ...]:
        """Return its ending.

        Raises:
            ModelError: its weights are more than one ONNX file can hold.

        """
        if model.origin.format == self.name:
            size = sum(value.numel() * value.element_size() for value in model.network.state_dict().values())
            if size > MAX_BYTES:
                raise ModelError(
                    f"{model.origin.path}: expected weights of at most {MAX_BYTES:,} bytes to write them "
                    f"into one ONNX file, got {size:,}"
                )
        return self.suffixes

    def read(self, path: Path, asked: Architecture, *, allow_unsafe: bool) -> Loaded:
        """Read the graph into a network whose weights are the initializers."""
        return read_onnx(path, asked)

    def write(self, model: Classifier, path: Path) -> None:
        """Copy the file that the model came in, with its weights."""
        write_onnx(model, Path(model.origin.path), path)
