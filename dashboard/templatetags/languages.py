"""Texts of the pages behind links, in the language of the channel that the link was sent to."""

from typing import Any

from django import template

from incidents.notifications import words

register = template.Library()


@register.simple_tag(takes_context=True)
def say(context: dict[str, Any], english: str, **values: object) -> str:
    """Return a text in the page's `language`, with its values; escaped as a whole."""
    return words.say(context.get("language", words.ENGLISH), english, **values)


@register.simple_tag(takes_context=True)
def say_count(context: dict[str, Any], count: int, one: str, many: str, **values: object) -> str:
    """Return a text about a number of things, which it names `{count}`."""
    named = words.number(context.get("language", words.ENGLISH), count)
    return say(context, one if count == 1 else many, count=named, **values)
