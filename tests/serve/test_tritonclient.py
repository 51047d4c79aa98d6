"""Triton's own client needs no change."""

import pytest

http = pytest.importorskip("tritonclient.http", reason="its requirements do not fit those of keras and onnx")


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_is_answered(service, world, binary):
    client = http.InferenceServerClient(f"127.0.0.1:{service.server.port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("model", "1")
    assert client.get_model_metadata("model")["inputs"][0]["shape"] == [-1, 1, 20, 20]
    images = world.clean[:3].numpy()
    asked = http.InferInput("images", list(images.shape), "FP32")
    asked.set_data_from_numpy(images, binary_data=binary)
    for wanted in (None, [http.InferRequestedOutput("label", binary_data=binary)]):
        answer = client.infer("model", [asked], outputs=wanted, request_id="one")
        assert answer.as_numpy("label").tolist() == world.guard.model.answers(world.clean[:3]).tolist()
    with pytest.raises(Exception, match="expected the model model, got other"):
        client.infer("other", [asked])
