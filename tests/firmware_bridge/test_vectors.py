"""vectors.json against the decoders, the commands and the page that describes them."""

import json
from pathlib import Path

import numpy as np
import pytest
from cobs import cobs

import firmware_bridge
from firmware_bridge.decoders import make_decoder
from firmware_bridge.decoders.hypnic import COMMANDS, Ack, HypnicDecoder, Info, Status, command, crc16, frame

FOLDER = Path(firmware_bridge.__file__).parent
VECTORS = json.loads((FOLDER / "vectors.json").read_text(encoding="utf-8"))


def of(*decoders):
    return [pytest.param(v, id=v["name"]) for v in VECTORS if v["decoder"] in decoders]


def ours(keep):
    return [pytest.param(v, id=v["name"]) for v in VECTORS if v["decoder"] == "hypnic" and keep(v["values"])]


def test_names_are_unique():
    names = [vector["name"] for vector in VECTORS]
    assert len(set(names)) == len(names)


def test_page_shows_the_vectors_it_quotes():
    page = (FOLDER / "PROTOCOL.md").read_text(encoding="utf-8")
    by_name = {vector["name"]: bytes.fromhex(vector["hex"]) for vector in VECTORS}
    assert by_name["sample of the reference"].hex(" ").upper() in page
    header, _, *samples = by_name["csv checked"].decode().splitlines()
    assert "\n".join([header, *samples]) in page


@pytest.mark.parametrize("vector", of("crc16"))
def test_crc(vector):
    assert crc16(bytes.fromhex(vector["hex"])) == vector["values"]["crc"]


@pytest.mark.parametrize("vector", of("cobs"))
def test_stuffing(vector):
    decoded = bytes.fromhex(vector["values"]["decoded"])
    assert cobs.encode(decoded) + b"\0" == bytes.fromhex(vector["hex"])


@pytest.mark.parametrize("vector", ours(lambda values: values["type"] == "SAMPLE"))
def test_sample(vector):
    values = vector["values"]
    decoder = HypnicDecoder()
    info = Info(1_000_000, 100_000, 1, 16384, configuration=values["flags"] >> 4)
    decoder.feed(frame(info.body()))
    samples = decoder.feed(bytes.fromhex(vector["hex"]))
    assert samples.seq.tolist() == [values["seq"]]
    assert samples.tick.tolist() == [values["tick"]]
    assert (samples.xyz * 16384).tolist() == [[values["ax"], values["ay"], values["az"]]]


@pytest.mark.parametrize("vector", ours(lambda values: values["type"] == "INFO"))
def test_info(vector):
    values = dict(vector["values"])
    flags = values.pop("flags")
    del values["type"]
    decoder = HypnicDecoder()
    decoder.feed(bytes.fromhex(vector["hex"]))
    expected = Info(**values, boot=bool(flags & 1), sampling=bool(flags & 2), configuration=flags >> 4)
    if values["proto"] == 1:
        assert decoder.board == expected
    assert decoder.board.proto == values["proto"]
    assert frame(expected.body()) == bytes.fromhex(vector["hex"])
    assert (decoder.refusal is None) == (values["proto"] == 1)


@pytest.mark.parametrize("vector", ours(lambda values: values["type"] in ("STATUS", "ACK")))
def test_status_and_ack(vector):
    values = dict(vector["values"])
    kind = values.pop("type")
    decoder = HypnicDecoder()
    decoder.feed(bytes.fromhex(vector["hex"]))
    got = decoder.status if kind == "STATUS" else decoder.acks[-1]
    assert got == (Status if kind == "STATUS" else Ack)(**values)
    assert frame(got.body()) == bytes.fromhex(vector["hex"])


@pytest.mark.parametrize("vector", ours(lambda values: values["type"] in COMMANDS))
def test_command(vector):
    values = vector["values"]
    value = values.get("rate_mhz", values.get("range_g", 0))
    assert command(values["type"], values["token"], value) == bytes.fromhex(vector["hex"])


@pytest.mark.parametrize("vector", ours(lambda values: values["type"] == "bad"))
def test_bad_frame_is_dropped_and_counted(vector):
    wire = bytes.fromhex(vector["hex"])
    decoder = HypnicDecoder()
    decoder.feed(frame(Info(1_000_000, 100_000, 1, 16384).body()))
    accepted = decoder.counters.bytes_accepted
    assert len(decoder.feed(wire)) == 0
    assert decoder.counters.bad_frames == 1
    assert decoder.counters.bytes_accepted == accepted
    assert decoder.counters.bytes_discarded == len(wire)


@pytest.mark.parametrize("vector", [pytest.param(v, id=v["name"]) for v in VECTORS if "times" in v["values"]])
def test_stream(vector):
    values = vector["values"]
    decoder = make_decoder(vector["decoder"])
    parts = [decoder.feed(bytes.fromhex(vector["hex"])) for _ in range(values["times"])]
    parts.append(decoder.finish())
    xyz = np.concatenate([part.xyz for part in parts])
    assert len(xyz) == values["samples"]
    np.testing.assert_allclose(xyz[-1], [values["x"], values["y"], values["z"]], rtol=2e-7, atol=1e-8)
    for name in ("seq", "tick"):
        assert np.concatenate([getattr(part, name) for part in parts])[-1] == values.get(name, -1)
    assert decoder.counters.implausible == decoder.counters.lost == 0
