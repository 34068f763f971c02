"""What is shared without an account: status pages, badges, and the view for a TV.

    browser -- GET /s/<address>/ --> views.py --> kept.py: is it there, and not older than a few seconds?   no statement
                                                   if not: facts.py reads, the template or badge.py draws, kept.py keeps

So a million viewers cost the database what one costs. A page never has a log, an owner, a ping address or a key.
"""
