"""A microphone is meant by what stays, whatever number it has today."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from agent.capture.devices import list_inputs, match_device
from agent.config.capture import MicrophoneSource
from agent.core.errors import AudioError


@pytest.fixture
def plugged(tmp_path):
    """Builds the kernel's and PortAudio's view of cards: `(number, id, name, socket)`."""

    def plug(*cards, extra=()):
        proc, sys = tmp_path / "cards", tmp_path / "sound"
        proc.write_text(
            "".join(
                f"{number:2} [{card:15}]: USB-Audio - {name}\n                      {name} at usb\n"
                for number, card, name, _ in cards
            )
        )
        sys.mkdir(exist_ok=True)
        listed = [{"name": "HDMI out (hw:0,3)", "max_input_channels": 0, "default_samplerate": 1}]
        for number, _, name, socket in cards:
            place = tmp_path / f"devices/platform/usb1/{socket.split('.')[0]}/{socket}/{socket}:1.0"
            place.mkdir(parents=True, exist_ok=True)
            link = sys / f"card{number}"
            link.mkdir(exist_ok=True)
            (link / "device").unlink(missing_ok=True)
            (link / "device").symlink_to(place)
            listed.append(
                {
                    "name": f"{name}: - (hw:{number},0)",
                    "max_input_channels": 2,
                    "default_samplerate": 48000.0,
                }
            )
        listed += [
            {"name": name, "max_input_channels": 32, "default_samplerate": 44100.0}
            for name in extra
        ]
        sd = SimpleNamespace(query_devices=lambda: listed, default=SimpleNamespace(device=(1, 0)))
        return list_inputs(sd, proc=proc, sys=sys)

    return plug


TWINS = ((1, "CODEC", "USB Audio CODEC", "1-1.2"), (2, "CODEC_1", "USB Audio CODEC", "1-1.4"))


def test_identities_are_read_from_the_kernel(plugged):
    first, second, default = plugged(*TWINS, extra=["default"])
    assert (first.id, first.usb, first.name) == (
        "hw:CARD=CODEC,DEV=0",
        "usb:1-1.2",
        "USB Audio CODEC",
    )
    assert (second.id, second.usb) == ("hw:CARD=CODEC_1,DEV=0", "usb:1-1.4")
    assert (default.id, default.usb, default.channels) == ("default", "", 32)
    assert first.default
    assert not second.default


@pytest.mark.parametrize(
    "wanted",
    ["hw:CARD=CODEC_1,DEV=0", "hw:card=codec_1", "plughw:CODEC_1,0", "codec_1", "usb:1-1.4", "usb:1-1/1-1.4"],
)  # fmt: skip
def test_one_of_two_twins_is_meant_by_id_card_or_socket(plugged, wanted):
    assert match_device(plugged(*TWINS), wanted).card == "CODEC_1"


def test_the_same_socket_is_found_under_another_number_and_id(plugged):
    moved = plugged((3, "CODEC", "USB Audio CODEC", "1-1.4"), (1, "PCH", "Analog", "9-9"))
    assert match_device(moved, "usb:1-1.4").id == "hw:CARD=CODEC,DEV=0"
    # A socket is no prefix of another.
    with pytest.raises(AudioError, match="no such microphone"):
        match_device(moved, "usb:1-1.40")
    for blank in ("usb:", "usb:/"):
        with pytest.raises(AudioError, match="no such microphone"):
            match_device(plugged(*TWINS, extra=["default"]), blank)
    with pytest.raises(ValidationError, match="blank"):
        MicrophoneSource(device=" ")


def test_parts_of_names_must_be_unambiguous_and_the_message_lists_what_there_is(plugged):
    inputs = plugged(*TWINS, extra=["vmic", "vmic monitor"])
    assert match_device(inputs, "vmic").name == "vmic"
    assert match_device(inputs, "MONITOR").name == "vmic monitor"
    assert match_device(inputs, None).card == "CODEC"
    with pytest.raises(AudioError, match=r"several devices match.*CARD=CODEC,.*usb:1-1\.2.*1-1\.4"):
        match_device(inputs, "usb audio")
    with pytest.raises(AudioError, match=r"no such microphone.*Found: 'USB Audio CODEC' \(hw:"):
        match_device(inputs, "line in")
    with pytest.raises(AudioError, match=r"no microphone.*Found: none"):
        match_device([], None)


@pytest.mark.parametrize("index", ["0", "12", "hw:1,0", "hw:1", "plughw:CARD=2,DEV=0"])
def test_a_number_is_refused(index):
    assert MicrophoneSource(device=None).device is None
    with pytest.raises(ValidationError, match="a number that changes"):
        MicrophoneSource(device=index)
    MicrophoneSource(device="hw:CARD=USB2,DEV=0")
