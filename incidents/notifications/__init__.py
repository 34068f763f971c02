"""From an incident to people: outbox -> delivery -> channels, with texts and recipients."""
