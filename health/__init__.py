"""How Watchclock itself is: what is known, what is wrong with it, who is notified. Nothing here changes anything."""
