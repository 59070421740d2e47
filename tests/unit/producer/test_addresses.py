"""Which addresses and URLs a file_url may name."""

import ipaddress

import pytest

from producer_api.addresses import Allowed, check_url, why_refused
from schemas.errors import DocfleetError, ErrorCode

NOTHING = Allowed()


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("127.0.0.1", "loopback"),
        ("127.1", "loopback"),
        ("2130706433", "loopback"),
        ("0x7f000001", "loopback"),
        ("0x7f.0.0.1", "loopback"),
        ("0177.0.0.1", "loopback"),
        ("017700000001", "loopback"),
        ("127.0.0.1.", "loopback"),
        ("１２７.0.0.1", "loopback"),
        ("127。0。0。1", "loopback"),
        ("[::1]", "loopback"),
        ("[::ffff:127.0.0.1]", "loopback"),
        ("[::ffff:7f00:1]", "loopback"),
        ("[::127.0.0.1]", "loopback"),
        ("[64:ff9b::7f00:1]", "loopback"),
        ("[2002:7f00:1::]", "loopback"),
        ("[2001:0:7f00:1::]", "loopback"),
        ("[2001:4860::5efe:7f00:1]", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("0", "unspecified"),
        ("[::]", "unspecified"),
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("192.168.257", "private"),
        ("[fd12::1]", "private"),
        ("[fec0::1]", "private"),
        ("[64:ff9b::10.0.0.1]", "private"),
        ("169.254.169.254", "metadata"),
        ("0xa9fea9fe", "metadata"),
        ("[::ffff:169.254.169.254]", "metadata"),
        ("168.63.129.16", "metadata"),
        ("100.100.100.200", "metadata"),
        ("[fd00:ec2::254]", "metadata"),
        ("[fd20:ce::254]", "metadata"),
        ("192.0.0.192", "metadata"),
        ("169.254.1.1", "link-local"),
        ("[fe80::1]", "link-local"),
        ("[fe80::1%25eth0]", "not allowed"),
        ("[fe80::1%eth0]", "not allowed"),
        ("100.64.0.1", "carrier-grade"),
        ("224.0.0.1", "multicast"),
        ("[ff02::1]", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("240.0.0.1", "reserved"),
        ("198.18.0.1", "reserved"),
        ("192.0.2.1", "reserved"),
        ("[2001:db8::1]", "reserved"),
        ("[64:ff9b:1::1]", "reserved"),
        ("[4000::1]", "reserved"),
        ("999.1.1.1", "no valid address"),
        ("1.2.3.4.5", "not allowed"),
    ],
)
def test_no_spelling_of_a_forbidden_address_passes(host: str, why: str) -> None:
    with pytest.raises(DocfleetError) as refusal:
        check_url(f"http://{host}/x.pdf", NOTHING)
    assert refusal.value.code is ErrorCode.URL_NOT_ALLOWED
    assert why in refusal.value.sentence


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/x",
        "file:///etc/passwd",
        "gopher://example.com",
        "example.com/x.pdf",
        "//example.com/x",
        "http://",
        "http:///x",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "http://example.com\\@127.0.0.1/",
        "http://exa mple.com/",
        "http://example.com/\r\nX: y",
        "http://example.com:99999/",
        "http://[::1/",
        "http://exa$mple.com/",
        "http://" + "a" * 300 + "/",
        "http://example.com/" + "a" * 9000,
    ],
)
def test_other_schemes_credentials_and_broken_urls_are_refused(url: str) -> None:
    with pytest.raises(DocfleetError) as refusal:
        check_url(url, NOTHING)
    assert refusal.value.code is ErrorCode.URL_NOT_ALLOWED


@pytest.mark.parametrize("dropped", ["\u200b", "\u00ad", "\u200d", "\u2060", "\ufeff", "\u115f", "\u2066"])
def test_host_with_characters_that_only_some_readers_drop_is_refused(dropped: str) -> None:
    with pytest.raises(DocfleetError, match="no valid URL") as refusal:
        check_url(f"http://exa{dropped}mple.com/x.pdf", NOTHING)
    assert refusal.value.code is ErrorCode.URL_NOT_ALLOWED


def test_refusal_of_a_url_that_is_no_text_can_be_written_down() -> None:
    with pytest.raises(DocfleetError) as refusal:
        check_url(b"http://m\xfcnchen.example/".decode(errors="surrogateescape"), NOTHING)
    assert refusal.value.sentence.encode() == rb"file_url is not allowed: m\udcfcnchen.example is no valid address."


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/x.pdf",
        "HTTPS://Example.COM:8443/a?b=c&sig=%2F%3D#page",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]/x",
        "https://[64:ff9b::8.8.8.8]/x",
        "https://münchen.example/x",
        "https://my_bucket.example.com/x",
    ],
)
def test_public_urls_pass(url: str) -> None:
    assert check_url(url, NOTHING).hostname


def test_operator_allows_networks_and_hosts() -> None:
    allowed = Allowed.parse("10.1.0.0/16, Files.Internal ,fd12::/16")
    assert why_refused(ipaddress.ip_address("10.1.2.3"), allowed) is None
    assert why_refused(ipaddress.ip_address("fd12::1"), allowed) is None
    assert why_refused(ipaddress.ip_address("10.2.0.1"), allowed) == "a private address"
    assert why_refused(ipaddress.ip_address("::ffff:10.1.2.3"), allowed) is None
    assert allowed.has_host("files.internal.")
    assert not allowed.has_host("other.internal")


@pytest.mark.parametrize("text", ["10.1.0.0/99", "a b", "10.1.2", "http://x", "10.1.2.3/16"])
def test_wrong_allow_list_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="neither a host name nor a network"):
        Allowed.parse(text)
