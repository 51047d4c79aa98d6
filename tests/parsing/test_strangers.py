"""What is neither a model nor data is named, whether it was given as the one or as the other."""

import pytest

from detrojan.data.reading import read_data
from detrojan.errors import DataError, ModelError
from detrojan.models.loading import load_model

FILES = {
    "x.7z": (b"7z\xbc\xaf\x27\x1c" + bytes(30), "got a 7z archive; unpack it first"),
    "x.rar": (b"Rar!\x1a\x07\x01\0" + bytes(30), "got a RAR archive; unpack it first"),
    "x.zst": (b"\x28\xb5\x2f\xfd" + bytes(30), r"got a packed file \(zstd\); unpack it first"),
    "x.pt": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "got a pointer of Git LFS; .* lfs pull",
    ),
    "x.onnx": (b"\n<!DOCTYPE html><html>404</html>", "got a web page, .* failed; fetch the file again"),
    "x.exr": (b"\x76\x2f\x31\x01" + bytes(30), "got an OpenEXR picture; make it PNG first"),
    "x.fits": (b"SIMPLE  =                    T" + bytes(30), "got a FITS file; save its images"),
    "x.ico": (b"\0\0\1\0\1\0" + bytes(30), r"got an icon \(ICO\); make it PNG first"),
    "x.dcm": (bytes(128) + b"DICM" + bytes(30), "got a DICOM picture; make it PNG first"),
    "x.arff": (b"% comment\n@RELATION signs\n", "got a table of Weka's .* numpy.savez"),
    "x.mp4": (b"\0\0\0\x18ftypmp42" + bytes(30), "got a film; take pictures out of it"),
    "x.mdb": (bytes(16) + b"\xde\xc0\xef\xbe" + bytes(30), "got an LMDB database; export its pictures"),
    "x.tfrecord": (b"\x64" + bytes(60), "got TensorFlow's records; write their pictures into folders"),
    "x.xml": (b"<?xml version='1.0'?>\n<!-- -->\n<opencv_storage>", "got a cascade of OpenCV; detrojan judg"),
}


@pytest.mark.parametrize("name", FILES)
def test_it_is_named_with_what_helps(name, tmp_path):
    content, text = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"expected a model's file, {text}"):
        load_model(tmp_path / name)
    with pytest.raises(DataError, match=f"expected images, {text}"):
        read_data(tmp_path / name)


def test_a_network_of_matlab_s_has_to_be_exported(tmp_path):
    (tmp_path / "net.mat").write_bytes(b"MATLAB 5.0 MAT-file, Platform" + bytes(120))
    with pytest.raises(ModelError, match="got a MATLAB file; a network in it has to be exported"):
        load_model(tmp_path / "net.mat")


@pytest.mark.parametrize("ask", [load_model, read_data])
@pytest.mark.parametrize("address", ["https://example.org/a.zip", "s3://bucket/key"])
def test_an_address_is_not_fetched(ask, address):
    with pytest.raises((ModelError, DataError), match=f"{address}: .*got an address; nothing is fetched"):
        ask(address)


@pytest.mark.parametrize("ask", [load_model, read_data])
def test_a_tilde_is_the_home_folder(ask, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises((ModelError, DataError), match=f"{tmp_path}/none"):
        ask("~/none")
