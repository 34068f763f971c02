"""Who asks, behind proxies that are trusted."""

import ipaddress

import pytest
from django.core.exceptions import ImproperlyConfigured

from dashboard.login.addresses import client_address
from project import env


@pytest.mark.parametrize(
    ("remote", "forwarded_for", "address"),
    [
        ("203.0.113.7", "", "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.0.0.9", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.8, 10.0.0.9", "10.0.0.8"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::1]:443", "2001:db8::1"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("", "198.51.100.1", ""),
    ],
)
def test_whose_address_it_is(remote, forwarded_for, address):
    assert client_address(remote, forwarded_for, [ipaddress.ip_network("10.0.0.0/8")]) == address


def test_trusted_proxies_are_addresses_and_networks(monkeypatch):
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.7, 192.168.0.1/16")
    assert [str(network) for network in env.networks("TRUSTED_PROXIES")] == ["10.0.0.7/32", "192.168.0.0/16"]
    monkeypatch.setenv("TRUSTED_PROXIES", "proxy.example.com")
    with pytest.raises(ImproperlyConfigured, match=r"TRUSTED_PROXIES='proxy.example.com': .*10\.0\.0\.7"):
        env.networks("TRUSTED_PROXIES")
