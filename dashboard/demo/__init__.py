"""An instance to look around in: two weeks of believable history, made by the real code in virtual time.

jobs.py     the jobs of a small shop, and how each fails (pure)
story.py    what they report in two weeks, as a story (pure)
fill.py     plays the story into an empty instance
live.py     lets the jobs go on, over HTTP
"""
