from typing import Any

import pytest

from services.notifier.core.channels.addresses import AddressReach, may_reach, public_address, reach_of, written_reach
from tests.unit.notifier.routes_documents import document, problems, read

PUBLIC, PRIVATE, HOST_ONLY = AddressReach.PUBLIC, AddressReach.PRIVATE, AddressReach.HOST_ONLY
# By kind: the field with the address, and the address with a host in it.
FIELDS = {
    "slack": ("url", "https://{}/services/x"),
    "pagerduty": ("url", "https://{}/v2/enqueue"),
    "webhook": ("url", "https://{}/hook"),
    "email": ("host", "{}"),
}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.215.14", PUBLIC),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", PUBLIC),
        ("127.0.0.1", PRIVATE),
        ("10.1.2.3", PRIVATE),
        ("172.16.0.1", PRIVATE),
        ("192.168.1.1", PRIVATE),
        ("100.64.0.1", PRIVATE),
        ("198.18.0.1", PRIVATE),
        ("::1", PRIVATE),
        ("fd00::1", PRIVATE),
        ("fec0::1", PRIVATE),
        ("2001:db8::1", PRIVATE),
        # What leads nowhere else than to this host and its network.
        ("0.0.0.0", HOST_ONLY),
        ("::", HOST_ONLY),
        ("169.254.1.1", HOST_ONLY),
        ("fe80::1%eth0", HOST_ONLY),
        ("224.0.0.1", HOST_ONLY),
        ("ff02::1", HOST_ONLY),
        ("255.255.255.255", HOST_ONLY),
        ("240.0.0.1", HOST_ONLY),
        ("100::1", HOST_ONLY),
        # Metadata of AWS, Alibaba, Azure, Oracle and Google.
        ("169.254.169.254", HOST_ONLY),
        ("fd00:ec2::254", HOST_ONLY),
        ("100.100.100.200", HOST_ONLY),
        ("168.63.129.16", HOST_ONLY),
        ("192.0.0.192", HOST_ONLY),
        ("fd20:ce::254", HOST_ONLY),
        # An address of IPv4 inside one of IPv6: compatible, mapped, translated, NAT64, 6to4, Teredo.
        ("::127.0.0.1", PRIVATE),
        ("::ffff:127.0.0.1", PRIVATE),
        ("::ffff:169.254.169.254", HOST_ONLY),
        ("::ffff:93.184.215.14", PUBLIC),
        ("::ffff:0:10.0.0.1", PRIVATE),
        ("64:ff9b::127.0.0.1", PRIVATE),
        ("64:ff9b::93.184.215.14", PUBLIC),
        ("64:ff9b:1::169.254.169.254", HOST_ONLY),
        ("2002:7f00:1::", PRIVATE),
        ("2001:0:4136:e378:8000:63bf:f5ff:fffe", PRIVATE),
    ],
)
def test_who_reaches_an_address(address: str, expected: AddressReach) -> None:
    assert reach_of(address) is expected


def test_a_setting_permits_private_addresses_and_nothing_permits_those_of_the_host() -> None:
    permitted = {
        allow: {reach for reach in AddressReach if may_reach(reach, allow_private=allow)} for allow in (True, False)
    }
    assert permitted == {False: {PUBLIC}, True: {PUBLIC, PRIVATE}}


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", PRIVATE), ("a.localhost", PRIVATE), ("10.0.0.1", PRIVATE), ("::1", PRIVATE), ("a.example", PUBLIC)],
)
def test_what_is_known_of_a_host_before_it_is_looked_up(host: str, expected: AddressReach) -> None:
    assert written_reach(host) is expected


@pytest.mark.parametrize("kind", FIELDS)
def test_a_channel_that_can_never_work_is_refused_with_the_file(kind: str) -> None:
    def changed(host: str, allow_private: object) -> dict[str, Any]:
        found = document()
        name, form = FIELDS[kind]
        found["channels"][kind] |= {name: form.format(host), "allow_private": allow_private}
        if kind == "slack":
            # Its address is a secret.
            del found["channels"]["slack"]["url"]
            found["channels"]["slack"]["url_file"] = form.format(host)
        return found

    def its_problems(host: str, allow_private: object) -> list[str]:
        content = FIELDS[kind][1].format(host)
        return problems(changed(host, allow_private), files={content: content})

    place = f"channels.{kind}.{FIELDS[kind][0]}"
    private = (
        f"{place}: leads to an address inside a private network; allow_private: true in the routes file permits it"
    )
    never = f"{place}: leads to an address that no channel may have: link-local, metadata of a cloud, multicast or"
    assert its_problems("10.0.0.1", allow_private=False) == [private]
    for allow_private in (True, False):
        [problem] = its_problems("169.254.169.254", allow_private=allow_private)
        assert problem.startswith(never)
    content = FIELDS[kind][1].format("10.0.0.1")
    assert read(changed("10.0.0.1", allow_private=True), files={content: content}).channels[kind]


def test_only_webhooks_need_leave_for_private_addresses() -> None:
    channels = read(document()).channels
    assert {name: spec.settings.allow_private for name, spec in channels.items()} == {
        "slack": True,
        "pagerduty": True,
        "email": True,
        "webhook": True,
    }
    changed = document()
    changed["channels"]["webhook"] |= {"url": "https://hooks.example/", "allow_private": False}
    del changed["channels"]["webhook"]["allow_private"]
    assert not read(changed).channels["webhook"].settings.allow_private


@pytest.mark.parametrize(
    ("url", "address"),
    [("https://user:key@a.example:8443/secret?x", "https://a.example:8443"), ("http://[::1]:9/", "http://[::1]:9")],
)
def test_only_scheme_host_and_port_are_shown(url: str, address: str) -> None:
    assert public_address(url) == address
