"""`make run`: everything on this machine, with engines of its own."""
