"""What is live on pages: a stream of events that says that something has changed, and never what.

    browser -- GET /events --> stream.py: who asks?      one statement, once
            <-- event: mark    hub.py: one poll a second for all viewers of this process, while there are any

A page that gets an event asks for what it shows: so the stream needs no rights beyond an account, a storm is one event,
and nothing is added to what ingest and the clock write.
"""
