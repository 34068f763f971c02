import asyncio
import socket
import subprocess
import sys
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incidents.notifications.guard import REFUSAL, RefusedAddressError, guarded, install_audit_hook, may_be_reached

PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::808:808", "2002:808:808::1"]
INSIDE = [
    "0.0.0.0",  # noqa: S104 - an address to be refused
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "3fff::1",
    "5f00::1",
    "fd00:ec2::254",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
METADATA = ["169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254"]


def networks(*texts):
    return [ip_network(text) for text in texts]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_reached(address):
    assert may_be_reached(address)


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_inside_are_not_reached(address):
    assert not may_be_reached(address)


def test_the_lists_are_those_of_the_rule():
    assert (len(PUBLIC), len(INSIDE)) == (5, 34)


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203"])
def test_an_allowed_network_is_reached_however_its_address_is_written(address):
    assert may_be_reached(address, networks("10.0.0.0/8"))
    assert not may_be_reached(address, networks("10.1.2.4/32", "192.168.0.0/16"))


@pytest.mark.parametrize("address", METADATA)
def test_a_network_that_only_contains_a_metadata_address_does_not_open_it(address):
    assert not may_be_reached(address, networks("0.0.0.0/0", "::/0", "100.64.0.0/10", "169.0.0.0/8", "fd00::/8"))


@pytest.mark.parametrize("address", METADATA)
def test_an_entry_of_its_own_opens_a_metadata_address(address):
    assert may_be_reached(address, networks(address))


@given(st.ip_addresses())
def test_an_address_says_the_same_in_every_notation(address):
    verdict = may_be_reached(str(address))
    if address.version == 4:
        assert may_be_reached(f"::ffff:{address}") == verdict
    else:
        assert may_be_reached(address.exploded) == verdict


def test_a_name_is_no_address():
    with pytest.raises(ValueError):
        may_be_reached("localhost")


class TestTheAuditHook:
    """It stays in the process of the tests, and does nothing outside of `guarded`."""

    @pytest.fixture(autouse=True)
    def hook(self):
        install_audit_hook()
        install_audit_hook()

    @pytest.fixture
    def listener(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield listener

    def test_other_code_of_the_process_is_not_touched(self, listener):
        with socket.create_connection(listener.getsockname(), timeout=5):
            pass

    def test_a_connection_to_the_inside_is_refused_in_a_guarded_context(self, listener):
        with guarded([]), pytest.raises(RefusedAddressError, match="may not be reached"):
            socket.create_connection(listener.getsockname(), timeout=5)

    def test_an_allowed_network_is_reached(self, listener):
        with guarded(networks("127.0.0.0/8")), socket.create_connection(listener.getsockname(), timeout=5):
            pass

    @pytest.mark.parametrize("address", [("localhost", 9), "/run/a.socket"])
    def test_a_name_instead_of_an_address_is_refused(self, address):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        with guarded(networks("0.0.0.0/0")), socket.socket(family) as line, pytest.raises(RefusedAddressError):
            line.connect(address)

    @pytest.mark.parametrize("method", ["sendto", "sendmsg"])
    def test_datagrams_are_refused(self, method):
        arguments = ([b"x"], [], 0) if method == "sendmsg" else (b"x",)
        with guarded([]), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line, pytest.raises(RefusedAddressError):
            getattr(line, method)(*arguments, ("127.0.0.1", 9))

    def test_a_guarded_event_loop_is_refused_too(self, listener):
        async def connect():
            with guarded([]):
                await asyncio.open_connection(*listener.getsockname())

        with pytest.raises(OSError, match="may not be reached"):
            asyncio.run(connect())


def test_the_words_do_not_tell_what_is_there():
    assert str(RefusedAddressError()) == REFUSAL


def test_the_rule_needs_neither_django_nor_aiohttp():
    program = "import sys, incidents.notifications.guard as g; print(sorted({'django', 'aiohttp'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
