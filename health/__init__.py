"""How Watchclock itself is: what is known, what is wrong with it, and who is told so. Nothing here changes anything."""
