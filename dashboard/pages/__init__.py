"""Pages for the people who own jobs: what is failing, since when and why; for each person what is theirs.

access.py    who may open a page or press a button: every view asks it
shell.py     what surrounds every page: navigation, the line on the clock
urls.py      the addresses
now/, ...    a folder for each page: `views.py` (shell), and what the page shows
"""
