"""Addresses are shown without what is secret in them, however they are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimcam.deploy.common.redaction import redacted

MARK_BEGIN, MARK_END = "Zq", "qZ"
secrets = st.text(max_size=12).map(lambda text: f"{MARK_BEGIN}{text}{MARK_END}")
addresses = st.one_of(
    st.builds("rtsp://somebody:{}@camera.local:554/live/0".format, secrets),
    st.builds("rtsp://{}:x@camera.local/live".format, secrets),
    st.builds("http://camera.local/video.cgi?user=a&password={}".format, secrets),
    st.builds("https://a:{}@camera.local/v?token={}#{}".format, secrets, secrets, secrets),
    st.builds("rtsp://camera.local/user=admin_password={}_channel=1.sdp".format, secrets),
    st.builds("rtps:/a:{}@camera.local/live".format, secrets),
    st.builds("a:{}@camera.local/live".format, secrets),
    st.builds("ftp://a:{}@[::1]:21/live".format, secrets),
)


def leaks(text: str) -> bool:
    return MARK_BEGIN in text or MARK_END in text


@given(addresses)
def test_secrets_are_never_shown(address: str) -> None:
    shown = redacted(address)
    assert not leaks(shown)
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://admin:secret@camera.local:554/live/0", "rtsp://camera.local:554/live/0"),
        ("rtsp://192.168.1.2/live", "rtsp://192.168.1.2/live"),
        ("http://[fe80::1]:80/v.cgi?token=1", "http://[fe80::1]:80/v.cgi?…"),
        ("rtsp://h/user=admin_password=1_channel=1.sdp", "rtsp://h/…"),
        ("rtsp://admin:pa/ss@h/live", "rtsp://…"),
        ("clips/monday.mp4", "clips/monday.mp4"),
        ("0", "0"),
    ],
)
def test_what_is_no_secret_is_shown(address: str, shown: str) -> None:
    assert redacted(address) == shown
