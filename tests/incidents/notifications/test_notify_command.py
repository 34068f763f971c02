"""`manage.py notify test`: a test through an e-mail channel is a mail like any other, and the answer is shown."""

import pytest
from django.core.management import call_command

from tests.factories import ChannelFactory

pytestmark = pytest.mark.django_db


def test_a_test_of_an_e_mail_channel_goes_to_each_address_as_text_and_page(mailoutbox, capsys):
    ChannelFactory(kind="email", name="ops", values={"to": "ada@example.com, bob@example.com"})
    call_command("notify", "test", "ops")

    assert [mail.to for mail in mailoutbox] == [["ada@example.com"], ["bob@example.com"]]
    assert {mail.subject for mail in mailoutbox} == {"[Watchclock] Test: alerts reach you"}
    assert all(mail.alternatives for mail in mailoutbox)
    assert "The mail server has it." in capsys.readouterr().out
