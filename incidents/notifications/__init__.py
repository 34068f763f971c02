"""From an incident to people: outbox -> delivery -> channels, with what is said and to whom."""
