"""The words of alerts in the languages of channels (pure). English is in the code, at its place; others are here.

`say` takes the English text with the names of its values in braces. A text without a translation stays English, and a
test finds it.
"""

from datetime import timedelta

from lib.durations import duration

ENGLISH = "en"
LANGUAGES = {ENGLISH: "English", "de": "Deutsch"}

GERMAN = {
    # kinds of failures
    "Missed": "Ausgeblieben",
    "Timed out": "Zeit überschritten",
    "Error": "Fehler",
    "Too slow": "Zu langsam",
    "Too fast": "Zu schnell",
    "Overlapping": "Überlappend",
    "Failing": "Fehlgeschlagen",
    # headlines
    "{job} is failing": "{job} schlägt fehl",
    "{job} is flapping": "{job} flattert",
    "{job} has recovered": "{job} läuft wieder",
    "{job} has settled and recovered": "{job} hat sich beruhigt und läuft wieder",
    "{job} is still failing": "{job} schlägt weiterhin fehl",
    "{job} is still failing, and muted now": "{job} schlägt weiterhin fehl und ist jetzt stumm",
    "{job} is failing, not acknowledged": "{job} schlägt fehl, nicht bestätigt",
    "{job} is acknowledged": "{job} ist bestätigt",
    "{job} failed and recovered": "{job} schlug fehl und läuft wieder",
    # the reason
    "It has been failing since {moment}.": "Der Fehler besteht seit {moment}.",
    "It had been failing since {moment}.": "Der Fehler bestand seit {moment}.",
    "It recovered at {moment}, after {length}.": "Wieder in Ordnung um {moment}, nach {length}.",
    "It has been failing for {length}, and nobody has acknowledged it.": (
        "Der Fehler besteht seit {length}, und niemand hat ihn bestätigt."
    ),
    "This is reminder {number}.": "Dies ist Erinnerung {number}.",
    "{who} acknowledged it at {moment}.": "{who} hat es um {moment} bestätigt.",
    "{who} acknowledged it.": "{who} hat es bestätigt.",
    "Somebody": "Jemand",
    "It flapped meanwhile, and has settled.": "Der Job hat zwischendurch geflattert und sich beruhigt.",
    "It is flapping: it changed {changes} times between ok and failing in its last {runs} runs, with {openings} "
    "incident within 24 hours. You will be notified when it has settled, and of nothing before.": (
        "Der Job flattert: {changes} Wechsel zwischen gut und fehlgeschlagen in den letzten {runs} Läufen, {openings} "
        "Vorfall in 24 Stunden. Die nächste Meldung kommt, wenn er sich beruhigt hat."
    ),
    "It is flapping: it changed {changes} times between ok and failing in its last {runs} runs, with {openings} "
    "incidents within 24 hours. You will be notified when it has settled, and of nothing before.": (
        "Der Job flattert: {changes} Wechsel zwischen gut und fehlgeschlagen in den letzten {runs} Läufen, {openings} "
        "Vorfälle in 24 Stunden. Die nächste Meldung kommt, wenn er sich beruhigt hat."
    ),
    "If it fails for another 14 days, it is muted. Disable it if nobody needs it.": (
        "Nach weiteren 14 Tagen ohne Erfolg wird er stumm. Schalten Sie ihn ab, wenn niemand ihn braucht."
    ),
    "It is muted from now on: the next notification comes when it recovers.": (
        "Ab jetzt ist er stumm: Die nächste Meldung kommt, wenn er wieder läuft."
    ),
    "Messages about {count} job are held because of it: {names}.": (
        "Meldungen über {count} Job werden deshalb zurückgehalten: {names}."
    ),
    "Messages about {count} jobs are held because of it: {names}.": (
        "Meldungen über {count} Jobs werden deshalb zurückgehalten: {names}."
    ),
    "Expected at {at}": "Erwartet um {at}",
    "{minutes} of margin": "{minutes} Spielraum",
    "no check-in by {until}": "keine Meldung bis {until}",
    "Started at {at}": "Begonnen um {at}",
    "{minutes} of maximum runtime": "{minutes} Höchstlaufzeit",
    "not finished by {until}": "nicht fertig bis {until}",
    "Reported an error at {at}.": "Fehler gemeldet um {at}.",
    "Reported an error at {at}, {length} after its start.": "Fehler gemeldet um {at}, {length} nach dem Beginn.",
    "Ended ok at {at} after {length}, {limit}.": "Erfolgreich beendet um {at} nach {length}, {limit}.",
    "Ended ok at {at}, {limit}.": "Erfolgreich beendet um {at}, {limit}.",
    "Started at {at}, before an earlier run had ended.": "Begonnen um {at}, bevor ein früherer Lauf zu Ende war.",
    "which is too long": "das ist zu lang",
    "which is too short": "das ist zu kurz",
    "longer than {bound}": "länger als {bound}",
    "less than {bound}": "kürzer als {bound}",
    "({times} the median of {median})": "({times} der Median von {median})",
    "(Judged later than usual: {decision}.)": "(Später als sonst beurteilt: {decision}.)",
    "It failed {count} times in a row, since {moment}; the threshold is {threshold}.": (
        "{count} Fehler in Folge, seit {moment} (Schwelle {threshold})."
    ),
    "It failed {count} times in a row; the threshold is {threshold}.": (
        "{count} Fehler in Folge (Schwelle {threshold})."
    ),
    "{kind} at {found}, recovered at {recovered} after {length}.": (
        "{kind} um {found}, wieder in Ordnung um {recovered} nach {length}."
    ),
    "No ok check-in so far.": "Bisher kein Erfolg gemeldet.",
    "Last ok {at}.": "Letzter Erfolg {at}.",
    "Last ok {at}, took {length}.": "Letzter Erfolg {at}, Dauer {length}.",
    "today {time}": "heute {time}",
    "yesterday {time}": "gestern {time}",
    "{count} minute": "{count} Minute",
    "{count} minutes": "{count} Minuten",
    # the parts of a message
    "since {moment}": "seit {moment}",
    "tags {tags}": "Tags {tags}",
    "acknowledged by {who}": "bestätigt von {who}",
    "recovered. {reason}": "läuft wieder. {reason}",
    "and {count} more": "und {count} weitere",
    "Acknowledge": "Bestätigen",
    "Acknowledge all": "Alle bestätigen",
    "Open incident": "Vorfall öffnen",
    "Open": "Öffnen",
    # storms
    "{count} job of {project} is failing": "{count} Job von {project} schlägt fehl",
    "{count} jobs of {project} are failing": "{count} Jobs von {project} schlagen fehl",
    "{count} job of {project} has recovered": "{count} Job von {project} läuft wieder",
    "{count} jobs of {project} have recovered": "{count} Jobs von {project} laufen wieder",
    "{count} job of {project} failed and has recovered": "{count} Job von {project} schlug fehl und läuft wieder",
    "{count} jobs of {project} failed and have recovered": "{count} Jobs von {project} schlugen fehl und laufen wieder",
    "All {count} jobs of {project} have recovered": "Alle {count} Jobs von {project} laufen wieder",
    "{first}, {count} has recovered": "{first}, {count} läuft wieder",
    "{first}, {count} have recovered": "{first}, {count} laufen wieder",
    "{first}, {count} is still failing": "{first}, {count} schlägt weiterhin fehl",
    "{first}, {count} are still failing": "{first}, {count} schlagen weiterhin fehl",
    "The failing jobs of {project} are acknowledged": "Die fehlgeschlagenen Jobs von {project} sind bestätigt",
    "{who} acknowledged the last of them.": "{who} hat den letzten davon bestätigt.",
    "They failed together, at {moment}.": "Sie schlugen gemeinsam fehl, um {moment}.",
    "This was the last message about them.": "Dies war die letzte Meldung dazu.",
    "They were found to fail at the same time, at {moment}.": "Die Fehler wurden gleichzeitig bemerkt, um {moment}.",
    "They reported errors within a short time, up to {moment}.": (
        "Sie haben innerhalb kurzer Zeit Fehler gemeldet, bis {moment}."
    ),
    "This happened during your quiet hours.": "Dies geschah während Ihrer Ruhezeit.",
    "They are still failing, and nobody has acknowledged them.": (
        "Sie schlagen weiterhin fehl, und niemand hat sie bestätigt."
    ),
    "Nobody has acknowledged them.": "Niemand hat sie bestätigt.",
    "This had waited until this channel took messages again.": (
        "Dies hatte gewartet, bis dieser Kanal wieder Meldungen annahm."
    ),
    # mails
    "Jobs of {project} are failing": "Jobs von {project} schlagen fehl",
    "Jobs of {project} failed and recovered": "Jobs von {project} schlugen fehl und laufen wieder",
    "Acknowledged": "Bestätigt",
    "Note": "Hinweis",
    "Exit status": "Exit-Status",
    "Project": "Projekt",
    "Severity": "Schweregrad",
    "Failing since": "Fehler seit",
    "Recovered": "Wieder in Ordnung",
    "Tags": "Tags",
    "Acknowledged by": "Bestätigt von",
    "The end of its log": "Das Ende der Ausgabe",
    "See Incidents in the admin.": "Siehe „Incidents“ in der Verwaltung.",
    "Stop these mails": "Diese Mails abbestellen",
    # weekly reports
    "Weekly report of {project}: {first} to {last}": "Wochenbericht von {project}: {first} bis {last}",
    "No run was judged in these seven days.": "In diesen sieben Tagen wurde kein Lauf beurteilt.",
    "{ok} of {judged} runs were kept ({share} %); {failed} failed.": (
        "{ok} von {judged} Läufen waren in Ordnung ({share} %); {failed} schlugen fehl."
    ),
    "{ok} of {judged} runs were kept ({share} %); {failed} failed: {kinds}.": (
        "{ok} von {judged} Läufen waren in Ordnung ({share} %); {failed} schlugen fehl: {kinds}."
    ),
    "{count} with an error": "{count} mit Fehler",
    "{count} missed": "{count} ausgeblieben",
    "{count} timed out": "{count} mit Zeitüberschreitung",
    "The week before: {ok} kept, {failed} failed.": "Die Woche davor: {ok} in Ordnung, {failed} fehlgeschlagen.",
    "{count} incident opened": "{count} Vorfall begann",
    "{count} incidents opened": "{count} Vorfälle begannen",
    "{count} is open now": "{count} ist jetzt offen",
    "{count} are open now": "{count} sind jetzt offen",
    "Failing now": "Schlägt jetzt fehl",
    "Noisiest": "Am lautesten",
    "Slowest": "Am langsamsten",
    "Silent": "Verstummt",
    "Never reported": "Nie gemeldet",
    "Channels that failed": "Kanäle mit Fehlern",
    "Open monitors": "Monitore öffnen",
    "last check-in {moment}": "letzte Meldung {moment}",
    "{longest}, {mean} on average": "{longest}, im Mittel {mean}",
    "{count} incident": "{count} Vorfall",
    "{count} incidents": "{count} Vorfälle",
    "{count} failed run": "{count} fehlgeschlagener Lauf",
    "{count} failed runs": "{count} fehlgeschlagene Läufe",
    "no message given up": "keine Meldung aufgegeben",
    "{count} message given up": "{count} Meldung aufgegeben",
    "{count} messages given up": "{count} Meldungen aufgegeben",
    "it fails now": "jetzt gestört",
    # the pages behind links
    "This link is not valid": "Dieser Link ist nicht gültig",
    "A link in an alert can be used for {days} days, while its incident is stored. Acknowledge the incident on its "
    "page, or with the link of a newer alert.": (
        "Ein Link in einer Meldung gilt {days} Tage, solange der Vorfall gespeichert ist. Bestätigen Sie den Vorfall "
        "auf seiner Seite oder mit dem Link einer neueren Meldung."
    ),
    "{count} job of {project}": "{count} Job von {project}",
    "{count} jobs of {project}": "{count} Jobs von {project}",
    "Notified together, since {moment}.": "Gemeinsam gemeldet, seit {moment}.",
    "{count} is over.": "{count} ist vorbei.",
    "{count} are over.": "{count} sind vorbei.",
    "Nobody has acknowledged {count} of them:": "Noch von niemandem bestätigt: {count}",
    "Your name, so that the others know who looks after them (may be empty)": (
        "Ihr Name, damit die anderen wissen, wer sich darum kümmert (darf leer sein)"
    ),
    "Your name, so that the others know who looks after it (may be empty)": (
        "Ihr Name, damit die anderen wissen, wer sich kümmert (darf leer sein)"
    ),
    "Reminders and escalation end. The jobs are watched as before, and people are notified of their recovery.": (
        "Erinnerungen und Eskalation enden. Die Jobs werden weiter überwacht, und ihr Ende wird gemeldet."
    ),
    "Reminders and escalation end. The job is watched as before, and people are notified of its recovery.": (
        "Erinnerungen und Eskalation enden. Der Job wird weiter überwacht, und das Ende wird gemeldet."
    ),
    "All are over.": "Alle sind vorbei.",
    "All that are open are acknowledged.": "Alle offenen sind bestätigt.",
    "Project {project}, failing since {moment}.": "Projekt {project}, Fehler seit {moment}.",
    "It is over: it recovered at {moment}.": "Es ist vorbei: wieder in Ordnung um {moment}.",
    "Nobody has acknowledged it.": "Niemand hat es bestätigt.",
    "Mails to {address}": "Mails an {address}",
    "Open it from the mail again, all of it: some programs cut long addresses. Its channel may also be gone.": (
        "Öffnen Sie ihn noch einmal aus der Mail, und zwar ganz: Manche Programme schneiden lange Adressen ab. "
        "Vielleicht gibt es auch seinen Kanal nicht mehr."
    ),
    "{address} gets no more weekly reports from the channel {channel}.": (
        "{address} bekommt keine Wochenberichte vom Kanal {channel} mehr."
    ),
    "{address} gets no more mails about new incidents from the channel {channel}.": (
        "{address} bekommt keine Mails über neue Vorfälle vom Kanal {channel} mehr."
    ),
    "Incidents are still reported to this address.": "Vorfälle werden dieser Adresse weiter gemeldet.",
    "Incidents that were reported to this address are still reported as resolved.": (
        "Das Ende von Vorfällen, die dieser Adresse gemeldet wurden, wird ihr noch gemeldet."
    ),
    "The owners of the project were notified, and can undo this.": (
        "Die Verantwortlichen des Projekts wurden benachrichtigt und können dies rückgängig machen."
    ),
    "Stop weekly reports from the channel {channel} to {address}?": (
        "Wochenberichte vom Kanal {channel} an {address} abbestellen?"
    ),
    "Stop mails from the channel {channel} to {address}?": "Mails vom Kanal {channel} an {address} abbestellen?",
    "Failures of jobs will not be reported to this address any more.": (
        "Fehler von Jobs werden dieser Adresse dann nicht mehr gemeldet."
    ),
    # a channel that fails
    "{channel} of {project}": "{channel} von {project}",
    "Channel {channel} fails": "Kanal {channel} ist gestört",
    "Alerts do not get through over the channel {name}.": "Über den Kanal {name} kommen keine Meldungen an.",
    "Alerts do not get through over the channel {name} since {moment}.": (
        "Über den Kanal {name} kommen seit {moment} keine Meldungen an."
    ),
    "The last error: {error}": "Der letzte Fehler: {error}",
    "Given up, and not sent over it:": "Aufgegeben und darüber nicht gemeldet:",
    "Not sent over it yet, and tried again until it is a day old:": (
        "Darüber noch nicht gemeldet; weitere Versuche, bis es einen Tag alt ist:"
    ),
    "Nothing waits for it now. What happens next will not be sent over it either.": (
        "Jetzt wartet nichts darauf. Was als Nächstes geschieht, wird darüber auch nicht gemeldet."
    ),
    "Correct its settings, then send a test: saving it tries what waits at once.": (
        "Berichtigen Sie seine Einstellungen und senden Sie einen Test: Beim Speichern wird versucht, was wartet."
    ),
    "Correct the address or the mail server (ALERT_EMAIL_TO, EMAIL_URL). What waits is tried again by itself.": (
        "Berichtigen Sie die Adresse oder den Mailserver (ALERT_EMAIL_TO, EMAIL_URL). Was wartet, wird von selbst"
        " wieder versucht."
    ),
    "opened": "begonnen",
    "resolved": "behoben",
    "opened and resolved": "begonnen und behoben",
    "still open": "noch offen",
    "escalated": "eskaliert",
    "acknowledged": "bestätigt",
    "many incidents at once": "viele Vorfälle zugleich",
    "recovery of many incidents": "Ende vieler Vorfälle",
    "from the clock": "von der Uhr",
    "a test": "ein Test",
    "a channel fails": "ein Kanal ist gestört",
    "a weekly report": "ein Wochenbericht",
    # kinds of channels, as pages name them; the others are names of products
    "E-mail": "E-Mail",
    "Signed webhook": "Signierter Webhook",
    "Slack (bot)": "Slack (Bot)",
    "Slack (incoming webhook)": "Slack (eingehender Webhook)",
    "Microsoft Teams (workflow)": "Microsoft Teams (Workflow)",
    "Apprise: other services, one-way, best effort": "Apprise: andere Dienste, nur hin, ohne Gewähr",
}
_NUMBERS = {
    ENGLISH: ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    "de": ("keine", "eine", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf"),
}


def say(language: str, english: str, **values: object) -> str:
    """Return a text in a language, with its values.

    >>> say("de", "and {count} more", count=3), say("xx", "and {count} more", count=3)
    ('und 3 weitere', 'and 3 more')
    """
    text = GERMAN.get(english, english) if language == "de" else english
    return text.format(**values) if values else text


def number(language: str, count: int) -> str:
    """Return a number with separators.

    >>> number("en", 12_345), number("de", 12_345)
    ('12,345', '12.345')
    """
    text = f"{count:,}"
    return text.replace(",", ".") if language == "de" else text


def minutes(language: str, count: int) -> str:
    """Return a number of minutes; small numbers as words.

    >>> minutes("en", 10), minutes("de", 1), minutes("en", 1_500)
    ('ten minutes', 'eine Minute', '1,500 minutes')
    """
    names = _NUMBERS.get(language, _NUMBERS[ENGLISH])
    named = names[count] if 0 <= count < len(names) else number(language, count)
    return say(language, "{count} minute" if count == 1 else "{count} minutes", count=named)


def length(language: str, lasted: timedelta) -> str:
    """Return a length of time in words."""
    return duration(lasted, language=language if language in LANGUAGES else ENGLISH)
